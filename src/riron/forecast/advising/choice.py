"""Which settings of a grid the held-out rows cannot tell from the best one."""

from typing import NamedTuple

import numpy as np

from .grid import Grid

NOISE = 1.0  # standard errors of a paired difference within which two settings are taken as equal
CLOSURE = 0.005  # of the best loss: what the cheap closure itself can be off by


class Choice(NamedTuple):
    """What one half of the held-out rows says: best (setting, stop), all as good, and means (S, T) with differences."""

    best: tuple[int, int]
    picked: set[tuple[int, int]]
    means: np.ndarray
    behind: np.ndarray  # (S, T) mean loss minus that of the best
    luck: np.ndarray  # (S, T) standard error of this paired difference


def choose(grid: Grid, rows: np.ndarray) -> Choice:
    """The setting and stop of least loss on these held-out rows, and of every setting the first stop as good as it."""
    choosing = grid.row_losses[:, :, rows].astype(float)
    means = np.where(np.isfinite(choosing).all(axis=2), choosing.mean(axis=2), np.inf)
    place = np.unravel_index(np.argmin(means), means.shape)
    best = (int(place[0]), int(place[1]))
    with np.errstate(invalid="ignore", over="ignore"):  # settings that diverge
        difference = choosing - choosing[best]  # paired: what all settings share in a row drops out
        behind = np.where(np.isfinite(means), difference.mean(axis=2), np.inf)
        luck = difference.std(axis=2, ddof=1) / np.sqrt(len(rows))
        equal = behind <= NOISE * luck + CLOSURE * means[best]
    equal &= np.isfinite(means)
    picked = {(int(s), int(np.argmax(equal[s]))) for s in np.flatnonzero(equal.any(axis=1))}
    return Choice(best, picked | {best}, means, behind, luck)


def best_steps(grid: Grid, choice: Choice) -> dict[int, float]:
    """The best step size of each batch size, at its best stop."""
    least = choice.means.min(axis=1)
    return {
        int(b): float(grid.step_sizes[np.argmin(np.where(grid.batches == b, least, np.inf))])
        for b in np.unique(grid.batches)
    }
