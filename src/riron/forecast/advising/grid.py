"""Cheap forecasts of many settings: what each held-out row is expected to lose at every stopping time.

Squared loss: fractions of the stability edge, all at once, with exact second moments on the diagonal. Other losses have
no edge: for each batch size the step size doubles or halves from 1 / mean |x|^2 until its best value lies inside.
All with replacement and on a sample of rows; shuffled epochs are forecast for the settings that come out best.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...lab.progress import Progress
from ...theory import block, convex_row_losses, linear_moments, sgd_moments
from ...theory.linear_moments import Method
from ...theory.linear_optimiser import optimiser_of
from ...theory.problem_arrays import Setting, losses, prepare
from ...theory.spectrum import Spectrum
from ...theory.step_sizes import StepSizes
from ..training import number_of_steps, steps_per_epoch

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # of the edge; the best lies at 0.02-0.5 of it
BATCHES = (1, 4, 16, 64, 256)
ROWS = 1000  # training rows that stand for all
BYTES = 2e8  # of held-out predictions at once
RTOL = 5e-3
MOSTLY = 0.5  # share of the train loss that may be noise; a closure that is not exact says little beyond it
WALK = 12  # doublings, or halvings, of the step size at most


class Grid(NamedTuple):
    """Per-row held-out losses (settings, stops, rows) of every setting and stop."""

    batches: np.ndarray  # (S,)
    step_sizes: np.ndarray  # (S,)
    fractions: np.ndarray  # (S,) of the edge; nan where there is none
    steps: np.ndarray  # (S, T)
    row_losses: np.ndarray  # (S, T, rows)
    train_losses: np.ndarray  # (S, T)
    per_epoch: np.ndarray  # (S,) steps

    def passes(self, s: int, t: int) -> float:
        """Passes over the training rows until stop t of setting s."""
        return float(self.steps[s, t] / self.per_epoch[s])


def stopping_times(n: int, batch: float, budget: float, shuffle: str) -> np.ndarray:
    """Steps at which training may stop: parts of the first epoch, then whole epochs, about a factor 1.4 apart."""
    whole = np.unique(np.round(np.geomspace(1, max(budget, 1), max(2, int(2 * np.log2(max(budget, 1))) + 1))))
    epochs = np.concatenate([[1 / 8, 1 / 4, 1 / 2], whole[whole <= budget]])
    epochs = np.append(epochs[epochs < budget], budget)
    return np.array([number_of_steps(n, batch, each, shuffle) for each in epochs])


def square_grid(
    spectrum: Spectrum,
    *,
    budget: float,
    edges: Mapping[int, float],
    shuffle: str,
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    fractions: Sequence[float] = FRACTIONS,
    progress=None,
) -> Grid:
    """Every batch size at every fraction of its edge (which is that of the momentum used), squared loss."""
    batches = np.repeat(list(edges), len(fractions))
    fractions_of = np.tile(np.asarray(fractions, float), len(edges))
    step_sizes = fractions_of * np.array([edges[b] for b in batches])
    steps = np.stack([stopping_times(spectrum.n, b, budget, shuffle) for b in batches])
    optimiser = optimiser_of(momentum, nesterov)
    width = _settings_at_once(spectrum, len(batches))
    with jax.enable_x64(True), Progress(len(batches), "advice", show=progress) as bar:
        method = None if optimiser.size == 1 else Method(optimiser)
        data = prepare(spectrum, k=0, dtype=jnp.float32, rows=min(ROWS, spectrum.n))
        pieces = []
        for start in range(0, len(batches), width):
            taken = np.arange(start, start + width).clip(max=len(batches) - 1)  # padded: one shape, one compilation
            arguments = step_sizes[taken], jnp.asarray(1 / batches[taken], jnp.float32), steps[taken]
            pieces.append(jax.device_get(_solve(data, jnp.asarray(ridge, jnp.float32), method, *arguments)))
            bar.advance(min(width, len(batches) - start))
    row_losses, train_losses = (np.concatenate(part)[: len(batches)] for part in zip(*pieces, strict=True))
    per_epoch = np.array([steps_per_epoch(spectrum.n, b, shuffle) for b in batches])
    return Grid(batches, step_sizes, fractions_of, steps, row_losses, train_losses, per_epoch)


def _settings_at_once(spectrum: Spectrum, settings: int) -> int:
    assert spectrum.test_rows is not None
    rows, p = len(spectrum.test_rows) + ROWS, len(spectrum.eigenvalues)
    return int(np.clip(BYTES / (8 * (rows + p) * spectrum.outputs), 1, settings))


@jax.jit
def _solve(data, ridge, method: Method | None, step_sizes, noises, stops):
    def expected(mean, covariance):
        residual = data.test_rows @ mean - data.test_targets
        by_row = (jnp.sum(residual**2, axis=1) + block.quadratic(data.test_rows, covariance)) / 2
        return by_row, losses(data, mean, covariance)[0]

    def one(step_size, noise, stops):
        setting = Setting(StepSizes(step_size), noise, ridge)
        if method is None:
            return sgd_moments.run(data, setting, stops, expected, RTOL)
        return linear_moments.run(data, setting, method, stops, expected, RTOL)

    return jax.vmap(one)(step_sizes, noises, stops)


def convex_grid(
    spectrum: Spectrum,
    *,
    loss: str,
    budget: float,
    batches: Sequence[int],
    chooses: np.ndarray,
    shuffle: str,
    ridge: float = 0.0,
    progress=None,
) -> Grid:
    """Every batch size at its best step size on the held-out rows `chooses`, and at those tried on the way there."""
    unit = float(1 / np.mean(spectrum.leverage))
    seen: dict[tuple[int, int], convex_row_losses.RowLosses] = {}
    stops = {batch: stopping_times(spectrum.n, batch, budget, shuffle) for batch in batches}
    with jax.enable_x64(True), Progress(len(batches), "advice", show=progress) as bar:
        problem = convex_row_losses.problem_of(spectrum)

        def least(batch: int, power: int) -> float:
            """The least loss over the stopping times at a step size of 2^power units."""
            if (batch, power) not in seen:
                seen[batch, power] = convex_row_losses.row_losses(
                    problem, loss=loss, batch=batch, step_size=unit * 2.0**power, stops=stops[batch], ridge=ridge
                )
            means = trusted(seen[batch, power])[:, chooses].mean(axis=1)
            return float(np.where(np.isfinite(means), means, np.inf).min())

        best, last = 0, None
        for batch in sorted(batches):
            start = best if last is None else best + round(np.log2(batch / last))  # as the noise asks
            best, last = descend(partial(least, batch), start), batch
            bar.advance()
    settings = sorted(seen)
    of = np.array([batch for batch, _ in settings])
    return Grid(
        batches=of,
        step_sizes=unit * 2.0 ** np.array([power for _, power in settings]),
        fractions=np.full(len(of), np.nan),
        steps=np.stack([stops[batch] for batch in of]),
        row_losses=np.stack([trusted(seen[each]) for each in settings]),
        train_losses=np.stack([seen[each].train for each in settings]),
        per_epoch=np.array([steps_per_epoch(spectrum.n, batch, shuffle) for batch in of]),
    )


def trusted(found: convex_row_losses.RowLosses) -> np.ndarray:
    """The held-out losses (stops, rows), inf where the loss is mostly noise: there the closure is not believed."""
    return np.where(found.noise[:, None] < MOSTLY, found.held_out, np.inf)


def descend(function, start: int) -> int:
    """The whole number next to which the function is nowhere smaller, walking downhill from `start`."""
    here = start
    while abs(here - start) < WALK:
        side = min((0, -1, 1), key=lambda each: function(here + each))
        if side == 0:
            break
        here += side
    return here
