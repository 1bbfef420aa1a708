"""Which step size, batch size and stopping time to use: all settings that the held-out rows cannot tell from the best.

Every setting of a grid is forecast with a cheap closure, which gives each held-out row its own expected loss
(`advice_grid`). One half of the held-out rows chooses; what the chosen settings will give is then forecast with the
covariance of the training curve and stated on the other half, so that the choice does not flatter itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ...checks import as_positive, nearest
from ...errors import InputError
from ...theory.convex_forecast import check_targets, convex_sgd
from ...theory.least_squares_forecast import least_squares_sgd
from ...theory.spectrum import Spectrum
from ..training import LOSSES
from .choice import Choice, best_steps, choose
from .grid import BATCHES, FRACTIONS, Grid, convex_grid, square_grid
from .held_out import halves, with_held_out

__all__ = ["BATCHES", "Advice", "advise"]

FINAL_ROWS, LEADING = 1000, 64  # rows, and directions of full covariance, of the final forecasts (0.2 % of the losses)
EFFORT = 2e9  # of the final forecasts: rows x (directions x features + outputs x features) x settings
DEARER = 10  # times per output and row, of losses that are integrated over their outputs
FEWEST = 8  # settings, the cheapest and the best, that have a final forecast in any case; of dearer losses 3


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
    edges: Mapping[int, float] | None = None,
    batches: Sequence[int] | None = None,
    loss: str = "square",
    shuffle: str = "epochs",
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    covariance: str = "auto",
    rows: int | None = None,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    progress=None,
) -> Advice:
    """Every setting within the noise of the best one that a budget allows.

    Args:
      spectrum: training and held-out rows, see `Spectrum.of`, with the targets of the loss (logistic: one column of
        -1 and 1; softmax: one-hot).
      budget_epochs: longest training, passes over the training rows.
      edges: stability edge of each batch size to try, with the momentum that is used; square loss only, others have
        none.
      batches: batch sizes to try with the other losses; default 1, 4, 16, 64, 256 up to n.
      loss: "square", "logistic" or "softmax".
      shuffle: "epochs" or "with-replacement".
      ridge: penalty ridge/2 |theta|^2.
      momentum, nesterov: in PyTorch's convention; square loss only.
      covariance, rows: closure of the final forecasts, as in `riron.forecast.sgd`.
      seed: of the halves of the held-out rows.
      fractions: of the edge, in (0, 1).
      progress: True, or a function (done, total, label).

    Returns:
      Advice. Each setting is a mapping: batch, step_size, fraction_of_edge (None without an edge), epochs, steps,
      train_loss, test_loss (on the half that judges) with test_loss_stderr (the luck of its rows), test_error for
      classes, behind_best with behind_best_stderr (paired, on the half that chose), best, closure. Of very many
      settings on large tables the dearest keep the losses of the grid (closure "diagonal", no test_error). Of one batch
      and step size only the cheapest stopping time within the noise is listed. Cheapest first: fewest passes, then
      fewest steps.

    Raises: InputError if there are fewer than 4 held-out rows, no edge, the budget is not positive, the targets do not
      fit the loss, or momentum is asked for with a loss other than the squared one.
    """
    as_positive(budget_epochs, "budget_epochs")
    parts = halves(spectrum, seed, "advice")
    seen = with_held_out(spectrum, np.concatenate(parts))
    chooses, judges = np.split(np.arange(sum(map(len, parts))), [len(parts[0])])
    run: dict[str, Any] = {"shuffle": shuffle, "ridge": ridge, "progress": progress}
    if _checked(loss, spectrum, momentum) == "square":
        if not edges:
            raise InputError("edges is empty", do="give the stability edge of at least one batch size")
        optimiser = {"momentum": momentum, "nesterov": nesterov}
        grid = square_grid(seen, budget=budget_epochs, edges=edges, fractions=fractions, **optimiser, **run)
    else:
        optimiser = {"loss": loss}
        tried = [b for b in batches or edges or BATCHES if b <= spectrum.n]
        grid = convex_grid(seen, loss=loss, budget=budget_epochs, batches=tried, chooses=chooses, **run)

    choice = choose(grid, chooses)
    picked = sorted(choice.picked, key=lambda st: (st != choice.best, grid.passes(*st), grid.steps[st]))
    final = Final(with_held_out(seen, judges), shuffle, ridge, covariance, rows, optimiser)
    settings = []
    for s, t in picked:
        setting = describe(grid, choice, s, t, judges)
        settings.append(setting | final.forecast(grid, s, t) if len(settings) < final.afforded else setting)
    settings.sort(key=lambda each: (each["epochs"], each["steps"], each["test_loss"]))
    return Advice(settings, best_steps(grid, choice), int(np.isfinite(choice.means).sum()))


def _checked(loss: str, spectrum: Spectrum, momentum: float) -> str:
    if loss not in LOSSES:
        raise InputError(f"no loss is called '{loss}'", why=nearest(loss, LOSSES), do=f"use {', '.join(LOSSES)}")
    if loss != "square":
        check_targets(spectrum, loss)
        if momentum:
            raise InputError(
                f"momentum={momentum} with the {loss} loss", why="its closure has no velocity", do="use momentum=0"
            )
    return loss


def describe(grid: Grid, choice: Choice, s: int, t: int, judges: np.ndarray) -> dict[str, Any]:
    """Setting s stopped at t, its loss on the rows that judge."""
    judged = grid.row_losses[s, t, judges]
    fraction = float(grid.fractions[s])
    return {
        "batch": int(grid.batches[s]),
        "step_size": float(grid.step_sizes[s]),
        "fraction_of_edge": None if np.isnan(fraction) else fraction,
        "epochs": grid.passes(s, t),
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


class Final:
    """Forecasts of chosen settings, sampled as they will be and with more of the covariance."""

    def __init__(self, judging: Spectrum, shuffle: str, ridge: float, covariance: str, rows, optimiser: dict[str, Any]):
        self.spectrum, self.convex = judging, "loss" in optimiser
        p, outputs = len(judging.eigenvalues), judging.outputs
        parameters = p * outputs if self.convex else p
        whole = parameters <= 2 * LEADING
        self.covariance = covariance if whole else ("diagonal" if self.convex else f"block:{LEADING}")
        self.setting: dict[str, Any] = {"sampling": shuffle, "ridge": ridge, "covariance": self.covariance}
        self.setting |= optimiser | {"errors": False}
        used = judging.n
        if not self.convex:
            self.setting["rows"] = used = min(rows or used, FINAL_ROWS)
        cost = used * ((parameters if whole else LEADING) + outputs) * p * (DEARER * outputs if self.convex else 1)
        self.afforded = max(3 if self.convex else FEWEST, EFFORT / cost)

    def forecast(self, grid: Grid, s: int, t: int) -> dict[str, Any]:
        """Losses and error rate of setting s at stop t; recorded at every stop, so that settings share compilations."""
        steps = np.unique(grid.steps[s])
        curve = (convex_sgd if self.convex else least_squares_sgd)(
            self.spectrum,
            batch=int(grid.batches[s]),
            step_size=float(grid.step_sizes[s]),
            record=xr.DataArray(steps, {"step": steps}, "step"),
            **self.setting,
        ).sel(step=grid.steps[s, t])
        known = {name: float(curve[name]) for name in ("train_loss", "test_loss", "test_error") if name in curve}
        return known | {"closure": self.covariance}
