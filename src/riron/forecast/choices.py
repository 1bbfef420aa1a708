"""What the command decides by itself, and what it says about it: batch and step size, how much fits, what is weak."""

from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError
from ..lab import memory
from ..theory.spectrum import Spectrum
from .advice import Advice
from .features import Features
from .options import USUAL_BATCH
from .tables.table import Table

WORK = 2.5e9  # n p^2 above which the covariance is full on the leading directions only
LEADING, MANY_LEADING = 300, 500  # of them; the second where there are more features than MANY
MANY = 2000
ENTRIES = 6e6  # rows x features above which a sample of rows stands for all in the shuffled closure
FEWEST_ROWS = 1000  # of that sample
SAMPLED = 0.01  # relative error that a sample of rows may cause at large steps (1 % at 0.6 of the edge)
BLOCK, MANY_BLOCK = 0.003, 0.02  # that a covariance full in part may cause
COPIES = 12  # of the rows that a solver holds at once


def choose_batch(asked: int | None, n: int, notes: list[str]) -> int:
    """The batch size asked for, or the usual one."""
    if asked is None:
        if n < USUAL_BATCH:
            notes.append(f"The batch size is {n}, all training rows.")
        else:
            notes.append(
                f"The batch size is {USUAL_BATCH}, the usual default of training libraries; --batch changes it."
            )
        return min(USUAL_BATCH, n)
    if asked > n:
        raise InputError(f"batch={asked} is more than the {n} training rows", do=f"use at most {n}")
    return asked


def choose_step_size(asked: float | None, batch: int, advice: Advice, budget: float, notes: list[str]) -> float:
    """The step size asked for, or the one that the advice finds best for this batch size."""
    if asked is not None:
        return asked
    step_size = advice.best_step[batch]
    notes.append(f"The step size {step_size:.3g} is the best found for batch {batch} within {budget:g} epochs.")
    return step_size


def check_memory(features: Features) -> None:
    """Refuse, before any large matrix is made, what will not fit."""
    n, p = features.F.shape
    held = (n + len(features.F_test)) * p
    rank = min(n, p)
    need = 8 * (3 * held + 4 * rank**2)
    count = features.spec.partition(":")[0]
    do = (
        f"use fewer features, for example --features {count}:{max(1, p // 4)}"
        if ":" in features.spec
        else "use fewer rows"
    )
    memory.require(need, f"the forecast of {n} rows and {p} features", do=do)


def closure(spectrum: Spectrum, shuffle: str, notes: list[str]) -> tuple[str, int | None]:
    """How much of the covariance is carried, and how many rows stand for all: as much as time and memory allow."""
    n, p, outputs = spectrum.n, len(spectrum.eigenvalues), spectrum.outputs
    free = memory.budget()
    covariance, leading = "full", p
    if p > MANY or 12 * 8 * p**2 > free or n * p**2 > WORK:
        leading = int(min(p, MANY_LEADING if p > MANY else LEADING, np.sqrt(free / (12 * 8))))
    if leading < p:
        covariance = f"block:{leading}"
        notes.append(
            f"The covariance is full on the {leading} leading directions and diagonal on the other {p - leading} "
            f"(losses can be off by {_block_error(p):.1%} by this)."
        )
    rows = n
    if n * leading**2 > WORK:
        rows = max(FEWEST_ROWS, int(WORK / leading**2))
    if shuffle == "epochs":
        rows = min(rows, max(FEWEST_ROWS, int(ENTRIES / p)), int(free / (COPIES * 8 * (p + 20 * outputs))))
    if rows >= n:
        return covariance, None
    if rows < min(n, 100):
        need = COPIES * 8 * (p + 20 * outputs) * min(n, 100)
        raise InputError(
            f"the shuffled forecast of {p} features and {outputs} outputs needs about {memory.amount(need)}",
            why=f"{memory.amount(free)} may be used",
            do="use --shuffle with-replacement, or fewer features",
        )
    notes.append(
        f"{rows} rows, the heaviest among them, stand for all {n} in the noise (an error of up to {SAMPLED:.0%})."
    )
    return covariance, rows


def with_stated_error(curve: xr.Dataset, covariance: str, rows: int | None, features: int) -> xr.Dataset:
    """The curve with the error of what was left out added to the tolerance of its closure."""
    more = (SAMPLED if rows is not None else 0.0) + (_block_error(features) if covariance != "full" else 0.0)
    if not more:
        return curve
    names = [f"{name}_tolerance" for name in ("train_loss", "test_loss")]
    return curve.assign({name: curve.get(name, xr.zeros_like(curve.train_loss)) + more for name in names})


def _block_error(features: int) -> float:
    return MANY_BLOCK if features > MANY else BLOCK


def describe_data(table: Table, features: Features) -> dict[str, Any]:
    """The table in numbers."""
    baseline = None
    if table.classes is not None:  # of always naming the class that is commonest among the training rows
        baseline = float(np.mean(table.y_test != np.bincount(table.y).argmax()))
    return {
        "source": table.source,
        "target": table.target,
        "task": table.task,
        "classes": table.classes,
        "n": table.n,
        "n_test": len(table.X_test),
        "columns": len(table.columns),
        "features": features.F.shape[1],
        "feature_map": features.spec,
        "target_mean": float(features.target_mean[0]) if table.classes is None else None,
        "target_scale": float(features.target_scale[0]) if table.classes is None else None,
        "baseline_error": baseline,
        "duplicate_rows": table.duplicate_rows,
    }


def weak_points(curve: xr.Dataset, edge: dict[str, Any], shuffle: str) -> list[str]:
    """Where this forecast is not to be trusted to the last per cent, said beforehand."""
    said = []
    if "growth_factor" in edge:
        said.append(
            f"The step size is {edge['fraction']:.3g} times the stability edge: the mean loss doubles every "
            f"{edge['doubling_steps']:.3g} steps in the long run, carried by rare runs near the edge."
        )
        if shuffle == "epochs":
            said.append(
                "Edge and growth are those of batches drawn with replacement; shuffled epochs meet a heavy row once "
                "an epoch, and single runs can last much longer than the mean (--shuffle with-replacement to compare)."
            )
        return said
    stated = [float(curve[name].max()) for name in ("train_loss_tolerance", "test_loss_tolerance") if name in curve]
    if stated and max(stated) >= 0.02:
        said.append(
            f"Here the theory of shuffled epochs is an approximation that can be off by {100 * max(stated):.0f} % "
            "(steps this large visit heavy rows too seldom); the band is widened by it."
        )
    return said
