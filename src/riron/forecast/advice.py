"""Which step size, batch size and stopping time to use: all settings that the held-out rows cannot tell from the best.

Every setting of a grid is forecast with the cheap closure (diagonal covariance, sampled rows), which gives each
held-out row its own expected loss. One half of the held-out rows chooses; what the chosen settings will give is then
forecast with the covariance of the training curve and stated on the other half, so that the choice does not flatter
itself.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..checks import as_positive
from ..errors import InputError
from ..lab.progress import Progress
from ..theory import block, sgd_moments
from ..theory.least_squares_forecast import least_squares_sgd
from ..theory.problem_arrays import Setting, losses, prepare
from ..theory.spectrum import Spectrum
from ..theory.step_sizes import StepSizes

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # of the edge; the best lies at 0.02-0.5 of it
BATCHES = (1, 4, 16, 64, 256)
ROWS = 1000  # training rows that stand for all while choosing
FINAL_ROWS, LEADING = 1000, 64  # rows, and directions of full covariance, of the final forecasts (0.2 % of the losses)
EFFORT = 2e9  # of the final forecasts: rows x (directions x features + outputs x features) x settings
FEWEST = 8  # settings, the cheapest and the best, that have a final forecast in any case
JUDGED = 4000  # held-out rows used at most
NOISE = 1.0  # standard errors of a paired difference within which two settings are taken as equal
CLOSURE = 0.005  # of the best loss: what the cheap closure itself can be off by
BYTES = 2e8  # of held-out predictions at once


class Grid(NamedTuple):
    """Forecasts with the cheap closure: per-row held-out losses (settings, stops, rows) of every setting and stop."""

    batches: np.ndarray  # (S,)
    step_sizes: np.ndarray  # (S,)
    fractions: np.ndarray  # (S,) of the edge
    steps: np.ndarray  # (S, T)
    row_losses: np.ndarray  # (S, T, rows)
    train_losses: np.ndarray  # (S, T)
    per_epoch: np.ndarray  # (S,) steps


class Choice(NamedTuple):
    """What one half of the held-out rows says: best (setting, stop), all as good, and means (S, T) with differences."""

    best: tuple[int, int]
    picked: set[tuple[int, int]]
    means: np.ndarray
    behind: np.ndarray  # (S, T) mean loss minus that of the best
    luck: np.ndarray  # (S, T) standard error of this paired difference


class Advice(NamedTuple):
    """The settings advised, cheapest first, and the best step size of each batch size in the grid."""

    settings: list[dict[str, Any]]
    best_step: dict[int, float]
    considered: int

    @property
    def best(self) -> dict[str, Any]:
        """The setting of least forecast loss on the half that chose."""
        return next(setting for setting in self.settings if setting["best"])


def advise(
    spectrum: Spectrum,
    *,
    budget_epochs: float,
    edges: Mapping[int, float],
    shuffle: str = "epochs",
    ridge: float = 0.0,
    covariance: str = "auto",
    rows: int | None = None,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    progress=None,
) -> Advice:
    """Every setting within the noise of the best one that a budget allows.

    Args:
      spectrum: training and held-out rows, see `Spectrum.of`.
      budget_epochs: longest training, passes over the training rows.
      edges: stability edge of each batch size to try.
      shuffle: "epochs" or "with-replacement".
      ridge: penalty ridge/2 |theta|^2.
      covariance, rows: closure of the final forecasts, as in `riron.forecast.sgd`.
      seed: of the halves of the held-out rows.
      fractions: of the edge, in (0, 1).
      progress: True, or a function (done, total, label).

    Returns:
      Advice. Each setting is a mapping: batch, step_size, fraction_of_edge, epochs, steps, train_loss, test_loss (on
      the half that judges) with test_loss_stderr (the luck of its rows), test_error for classes, behind_best with
      behind_best_stderr (paired, on the half that chose), best, closure. Of very many settings on large tables the
      dearest keep the losses of the grid (closure "diagonal", no test_error). Of one batch and step size only the
      cheapest stopping time within the noise is listed. Cheapest first: fewest passes, then fewest steps.

    Raises: InputError if there are fewer than 4 held-out rows, no edge, or the budget is not positive.
    """
    as_positive(budget_epochs, "budget_epochs")
    if spectrum.test_rows is None or spectrum.test_targets is None or len(spectrum.test_rows) < 4:
        raise InputError("the advice needs at least 4 held-out rows", do="pass X_test and y_test")
    if not edges:
        raise InputError("edges is empty", do="give the stability edge of at least one batch size")
    held_out = np.random.default_rng(seed).permutation(len(spectrum.test_rows))[:JUDGED]
    chooses, judges = np.array_split(np.arange(len(held_out)), 2)
    seen = with_held_out(spectrum, held_out)
    grid = forecast_grid(seen, budget_epochs, edges, fractions, shuffle, ridge, progress)

    choice = choose(grid, chooses)
    picked = sorted(choice.picked, key=lambda st: (st != choice.best, passes(grid, *st), grid.steps[st]))
    p = len(spectrum.eigenvalues)
    directions = p if p <= 2 * LEADING else LEADING
    covariance = covariance if directions == p else f"block:{LEADING}"
    rows = min(rows or spectrum.n, FINAL_ROWS)
    afforded = max(FEWEST, EFFORT / (rows * (directions + spectrum.outputs) * p))
    judging = with_held_out(seen, judges)
    settings = []
    for s, t in picked:
        setting = describe(grid, choice, s, t, judges)
        if len(settings) < afforded:
            curve = final_forecast(judging, grid, s, t, shuffle, ridge, covariance, rows)
            setting |= {name: float(curve[name]) for name in ("train_loss", "test_loss", "test_error") if name in curve}
            setting["closure"] = covariance
        settings.append(setting)
    settings.sort(key=lambda each: (each["epochs"], each["steps"], each["test_loss"]))
    least = choice.means.min(axis=1)
    best_step = {
        int(b): float(grid.step_sizes[np.argmin(np.where(grid.batches == b, least, np.inf))])
        for b in np.unique(grid.batches)
    }
    return Advice(settings, best_step, int(np.isfinite(choice.means).sum()))


def choose(grid: Grid, rows: np.ndarray) -> Choice:
    """The setting and stop of least loss on these held-out rows, and of every setting the first stop as good as it."""
    choosing = grid.row_losses[:, :, rows]
    means = np.where(np.isfinite(choosing).all(axis=2), choosing.mean(axis=2), np.inf)
    place = np.unravel_index(np.argmin(means), means.shape)
    best = (int(place[0]), int(place[1]))
    difference = choosing - choosing[best]  # paired: what all settings share in a row drops out
    behind = np.where(np.isfinite(means), difference.mean(axis=2), np.inf)
    luck = difference.std(axis=2, ddof=1) / np.sqrt(len(rows))
    equal = behind <= NOISE * luck + CLOSURE * means[best]
    picked = {(int(s), int(np.argmax(equal[s]))) for s in np.flatnonzero(equal.any(axis=1))}
    return Choice(best, picked | {best}, means, behind, luck)


def describe(grid: Grid, choice: Choice, s: int, t: int, judges: np.ndarray) -> dict[str, Any]:
    """Setting s stopped at t, its loss on the rows that judge."""
    judged = grid.row_losses[s, t, judges]
    return {
        "batch": int(grid.batches[s]),
        "step_size": float(grid.step_sizes[s]),
        "fraction_of_edge": float(grid.fractions[s]),
        "epochs": passes(grid, s, t),
        "steps": int(grid.steps[s, t]),
        "train_loss": float(grid.train_losses[s, t]),
        "test_loss": float(judged.mean()),
        "test_loss_stderr": float(judged.std(ddof=1) / np.sqrt(len(judged))),
        "test_error": None,
        "behind_best": float(choice.behind[s, t]),
        "behind_best_stderr": float(choice.luck[s, t]),
        "best": (s, t) == choice.best,
        "closure": "diagonal",
    }


def final_forecast(spectrum, grid: Grid, s: int, t: int, shuffle, ridge, covariance, rows) -> xr.Dataset:
    """Setting s at stop t, sampled as it will be; recorded at every stop, so that all settings share a compilation."""
    steps = np.unique(grid.steps[s])
    curve = least_squares_sgd(
        spectrum,
        batch=int(grid.batches[s]),
        step_size=float(grid.step_sizes[s]),
        record=xr.DataArray(steps, {"step": steps}, "step"),
        sampling=shuffle,
        ridge=ridge,
        covariance=covariance,
        rows=rows,
        errors=False,
    )
    return curve.sel(step=grid.steps[s, t])


def forecast_grid(spectrum, budget, edges, fractions, shuffle, ridge, progress=None) -> Grid:
    """Per-row held-out losses of every setting, with replacement, diagonal covariance, at most ROWS rows."""
    settings = [(b, fraction) for b in edges for fraction in fractions]
    batches = np.array([b for b, _ in settings])
    fractions = np.array([fraction for _, fraction in settings])
    step_sizes = fractions * np.array([edges[b] for b in batches])
    steps = np.stack([stopping_times(spectrum.n, b, budget, shuffle) for b in batches])
    outputs = spectrum.outputs
    width = max(
        1, int(BYTES / (8 * (len(spectrum.test_rows) + ROWS) * outputs + 8 * len(spectrum.eigenvalues) * outputs))
    )
    with jax.enable_x64(True), Progress(len(batches), "advice", show=progress) as bar:
        data = prepare(spectrum, k=0, dtype=jnp.float32, rows=min(ROWS, spectrum.n))
        blocks = []
        width = min(width, len(batches))
        for start in range(0, len(batches), width):
            taken = np.arange(start, start + width).clip(max=len(batches) - 1)  # padded: one shape, one compilation
            arguments = (
                jnp.asarray(step_sizes[taken]),
                jnp.asarray(1 / batches[taken], jnp.float32),
                jnp.asarray(steps[taken]),
            )
            blocks.append(jax.device_get(_solve_grid(data, jnp.asarray(ridge, jnp.float32), *arguments)))
            bar.advance(min(width, len(batches) - start))
    row_losses, train_losses = (np.concatenate(part)[: len(batches)] for part in zip(*blocks, strict=True))
    per_epoch = np.array([steps_per_epoch(spectrum.n, b, shuffle) for b in batches])
    return Grid(batches, step_sizes, fractions, steps, row_losses, train_losses, per_epoch)


@jax.jit
def _solve_grid(data, ridge, step_sizes, noises, stops):
    def expected(mean, covariance):
        residual = data.test_rows @ mean - data.test_targets
        by_row = (jnp.sum(residual**2, axis=1) + block.quadratic(data.test_rows, covariance)) / 2
        return by_row, losses(data, mean, covariance)[0]

    def one(step_size, noise, stops):
        return sgd_moments.run(data, Setting(StepSizes(step_size), noise, ridge), stops, expected, 5e-3)

    return jax.vmap(one)(step_sizes, noises, stops)


def passes(grid: Grid, s: int, t: int) -> float:
    """Passes over the training rows until stop t of setting s."""
    return float(grid.steps[s, t] / grid.per_epoch[s])


def stopping_times(n: int, batch: float, budget: float, shuffle: str) -> np.ndarray:
    """Steps at which training may stop: parts of the first epoch, then whole epochs, about a factor 1.4 apart."""
    per_epoch = steps_per_epoch(n, batch, shuffle)
    whole = np.unique(np.round(np.geomspace(1, max(budget, 1), max(2, int(2 * np.log2(max(budget, 1))) + 1))))
    epochs = np.concatenate([[1 / 8, 1 / 4, 1 / 2], whole[whole <= budget]])
    epochs = np.append(epochs[epochs < budget], budget)
    return np.maximum(1, np.round(epochs * per_epoch)).astype(int)


def steps_per_epoch(n: int, batch: float, shuffle: str) -> float:
    """n // batch where left-over rows are dropped, n / batch with replacement."""
    return float(n // batch) if shuffle == "epochs" else n / batch


def with_held_out(spectrum: Spectrum, chosen: np.ndarray) -> Spectrum:
    """The spectrum with some of its held-out rows only."""
    assert spectrum.test_rows is not None
    assert spectrum.test_targets is not None
    return dataclasses.replace(
        spectrum, test_rows=spectrum.test_rows[chosen], test_targets=spectrum.test_targets[chosen]
    )
