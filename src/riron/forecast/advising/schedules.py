"""The best schedule of step sizes for your own rows, found by differentiating the forecast; and schedules in files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ...checks import as_positive
from ...errors import InputError
from ...theory.least_squares_forecast import least_squares_sgd
from ...theory.problem_arrays import prepare
from ...theory.schedule_design import make_grid
from ...theory.schedule_search import TOGETHER, Basis, Limits, search, table_losses
from ...theory.schedule_tables import SCHEDULES, schedule_table
from ...theory.spectrum import Spectrum, check_setting
from ...theory.stability import HEAVY_ROWS, stability_edge
from ..training import number_of_steps
from .held_out import halves, with_held_out

CAP = 0.9  # of the edge: largest step size considered
PEAKS = (
    TOGETHER  # peaks tried of each named schedule, twice: over LOWEST .. CAP, then between the neighbours of the best
)
LOWEST = 0.005
ROWS, FULL, LEADING = 500, 64, 32  # rows that stand for all; covariance full up to FULL directions, else on LEADING
STARTS = 1  # of the search: the best of the named schedules
WRONG = 0.002  # relative difference from the adaptive forecast above which the grid is made finer
FINEST = 4


@dataclass(frozen=True)
class Schedule:
    """A schedule of step sizes with its forecast, beside the best constant, linear and cosine ones.

    Attributes:
      kind: "optimised", or the named schedule where none better was found.
      step_sizes: (steps,), one for each step. batches: (steps,) whole numbers, or None if all are `batch`.
      batch: rows a step (on average). epochs: passes over the rows.
      forecasts: by kind ("optimised", "constant", "linear", "cosine"): peak (largest step size), train_loss, test_loss
        (on the held-out rows that judge) and chosen_loss (on those that chose).
      limit: largest step size considered. grid_error: relative difference, of the optimised schedule's held-out loss,
        between the grid of the search and the adaptive forecast (nan for batches that change).
      sampling: "epochs" or "with-replacement".
    """

    kind: str
    step_sizes: np.ndarray
    batches: np.ndarray | None
    batch: float
    epochs: float
    forecasts: dict[str, dict[str, float]]
    limit: float
    grid_error: float
    sampling: str

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain numbers and lists."""
        return {
            "kind": self.kind,
            "steps": len(self.step_sizes),
            "step_sizes": self.step_sizes.tolist(),
            "batches": None if self.batches is None else self.batches.tolist(),
            "batch": self.batch,
            "epochs": self.epochs,
            "forecasts": self.forecasts,
            "limit": self.limit,
            "grid_error": self.grid_error,
            "sampling": self.sampling,
        }


def best_schedule(
    X: ArrayLike | Spectrum,
    y: ArrayLike | None = None,
    *,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    batch: float,
    budget_epochs: float,
    over: Sequence[str] = ("step_size",),
    knots: int = 8,
    sampling: str = "epochs",
    ridge: float = 0.0,
    edge: float | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> Schedule:
    """The schedule whose forecast held-out loss at the end of a budget is smallest.

    One half of the held-out rows is what the search makes small; the losses stated as test_loss are those on the other
    half. The search starts from the best of the constant, linear and cosine schedules, each at its own best peak; the
    best of all is returned.

    Args:
      X, y, X_test, y_test: training and held-out rows, as in `riron.forecast.sgd`; or X a `Spectrum` that has both.
      batch: rows a step; their mean, if batches are searched.
      budget_epochs: length of the run, passes over the rows.
      over: what is searched, ("step_size",) or ("step_size", "batch"). Batches keep the number of steps and of passes,
        and need sampling "with-replacement".
      knots: of the straight lines, >= 2.
      sampling: "epochs" (shuffled) or "with-replacement".
      ridge: penalty ridge/2 |theta|^2.
      edge: the stability edge at this batch size, if it is known.
      rows: training rows that stand for all in the noise (default 500).
      seed: of the halves and of the sample of rows.

    Returns: Schedule.
    Raises: InputError for fewer than 4 held-out rows or a value out of range.
    Source: reverse-mode derivatives of exact second moments (shuffled: of their leave-one-out closure); measured in
      docs/forecast-advice.md.
    """
    spectrum = X if isinstance(X, Spectrum) else Spectrum.of(X, _given(y), X_test, y_test)
    check_setting(spectrum, batch=batch, ridge=ridge)
    vary = _what(over, sampling, batch)
    if int(knots) != knots or knots < 2:
        raise InputError(f"knots={knots} must be a whole number >= 2")
    steps = number_of_steps(spectrum.n, batch, as_positive(budget_epochs, "budget_epochs"), sampling)
    epoch = int(spectrum.n // batch) if sampling == "epochs" else None
    chooses, judges = halves(spectrum, seed, "schedule")
    limits = _limits(spectrum, batch, ridge, edge, vary)
    p = len(spectrum.eigenvalues)
    k = p if p <= FULL else LEADING
    taken = min(rows or ROWS, spectrum.n)

    finer = 1
    with jax.enable_x64(True):
        data, judging = (
            prepare(with_held_out(spectrum, part), k=k, dtype=jnp.float64, rows=taken, seed=seed)
            for part in (chooses, judges)
        )
        while True:
            grid = make_grid(steps, epoch, finer=finer)
            basis = Basis.of(grid, int(knots))
            named = {
                kind: _best_peak(data, ridge, grid, epoch, kind, batch, float(limits.at(batch))) for kind in SCHEDULES
            }
            first = _by_loss(data, ridge, grid, epoch, named, batch)[:STARTS]
            found = [search(data, ridge, grid, epoch, basis, limits, batch, named[kind], vary) for kind in first]
            best = min(found, key=lambda each: each.loss)
            if vary:
                error = float("nan")
                break
            setting = {"batch": batch, "step_size": best.step_sizes, "sampling": sampling, "ridge": ridge}
            exact = least_squares_sgd(
                with_held_out(spectrum, chooses), record=xr.DataArray([steps], {"step": [steps]}, "step"),
                covariance="full" if k == p else f"block:{k}", rows=taken, errors=False, seed=seed, **setting,
            )  # fmt: skip
            error = best.loss / float(exact.test_loss[0]) - 1
            if abs(error) <= WRONG or finer >= FINEST:
                break
            finer *= 2
        limit = float(limits.at(batch))
        batches = _whole_batches(best.batches, steps * batch) if vary else None
        tables = {"optimised": best.step_sizes, **named}
        on = lambda part: table_losses(part, ridge, grid, epoch, list(tables.values()), batch)
        losses = {"chosen": on(data), "judged": on(judging)}
        if batches is not None:
            for name, part in (("chosen", data), ("judged", judging)):
                losses[name][0] = table_losses(part, ridge, grid, epoch, [best.step_sizes], batches)[0]
    forecasts = {
        kind: {"peak": float(table.max()), "train_loss": float(losses["judged"][i, 0]),
               "test_loss": float(losses["judged"][i, 1]), "chosen_loss": float(losses["chosen"][i, 1])}
        for i, (kind, table) in enumerate(tables.items())
    }  # fmt: skip
    kind = min(forecasts, key=lambda each: forecasts[each]["chosen_loss"])
    return Schedule(
        kind=kind,
        step_sizes=tables[kind],
        batches=batches if kind == "optimised" else None,
        batch=batch,
        epochs=steps * batch / spectrum.n,
        forecasts=forecasts,
        limit=limit,
        grid_error=error,
        sampling=sampling,
    )


def _best_peak(data, ridge, grid, epoch, kind: str, batch: float, largest: float) -> np.ndarray:
    """The named schedule at its best peak."""
    shape = schedule_table(kind, 1.0, int(grid.times[-1]))
    peaks = np.geomspace(LOWEST / CAP, 1, PEAKS) * largest
    best = 0
    for _ in range(2):
        losses = table_losses(data, ridge, grid, epoch, peaks[:, None] * shape, batch)[:, 1]
        best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
        known, around = peaks[best], np.geomspace(peaks[max(best - 1, 0)], peaks[min(best + 1, PEAKS - 1)], PEAKS + 1)
        peaks = np.append(around[1:-1], known)  # the best of the first round stays among those of the second
    return known * shape


def _by_loss(data, ridge, grid, epoch, named: dict[str, np.ndarray], batch: float) -> list[str]:
    """The named schedules, the best first."""
    losses = table_losses(data, ridge, grid, epoch, list(named.values()), batch)[:, 1]
    return [list(named)[i] for i in np.argsort(losses)]


def _limits(spectrum: Spectrum, batch: float, ridge: float, edge: float | None, vary: bool) -> Limits:
    """CAP times the edge, at this batch size or at several around it."""
    rows = min(HEAVY_ROWS, spectrum.n)
    edge_at = lambda b: stability_edge(spectrum, batch=b, ridge=ridge, rows=rows).step_size
    batches = np.unique(np.clip([1, batch**0.5, batch, 4 * batch], 1, spectrum.n)) if vary else np.array([1.0, 2.0])
    edges = [edge_at(b) for b in batches] if vary else 2 * [edge or edge_at(batch)]
    with jax.enable_x64(True):
        return Limits(jnp.log(jnp.asarray(batches)), jnp.log(CAP * jnp.asarray(edges)))


def _what(over: Sequence[str], sampling: str, batch: float) -> bool:
    """Whether batch sizes are searched."""
    if set(over) not in ({"step_size"}, {"step_size", "batch"}):
        raise InputError(f"over={tuple(over)} is unknown", do='use ("step_size",) or ("step_size", "batch")')
    if sampling not in ("epochs", "with-replacement"):
        raise InputError(f"sampling={sampling!r} is unknown", do="use epochs or with-replacement")
    vary = "batch" in over
    if vary and sampling == "epochs":
        raise InputError("batch sizes are searched for rows drawn with replacement only", do='pass "with-replacement"')
    if vary and batch <= 1:
        raise InputError("batches of mean 1 leave nothing to search", do="pass batch > 1")
    return vary


def _whole_batches(batches: np.ndarray, rows: float) -> np.ndarray:
    """Whole batch sizes near the real ones, whose running sum stays within half a row of theirs."""
    sums = np.round(np.cumsum(batches) * rows / batches.sum())
    return np.maximum(np.diff(sums, prepend=0), 1).astype(int)


def _given(y: ArrayLike | None) -> ArrayLike:
    if y is None:
        raise InputError("y is missing", do="pass the targets, or a Spectrum made from them")
    return y
