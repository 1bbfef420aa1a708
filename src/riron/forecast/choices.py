"""What the command decides by itself, and what it says about it: batch and step size, how much fits, what is weak."""

from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError
from ..lab import memory
from ..theory.spectrum import Spectrum
from .features import Features
from .options import USUAL_BATCH
from .tables.table import Table
from .training import Training

WORK = 2.5e9  # n p^2 above which the covariance is full on the leading directions only
LEADING, MANY_LEADING = 300, 500  # of them; the second where there are more features than MANY
MANY = 2000
ENTRIES = 6e6  # rows x features above which a sample of rows stands for all in the shuffled closure
FEWEST_ROWS = 1000  # of that sample
NOTICED, UNTRUSTED = 0.02, 0.1  # stated relative errors from which they are said, and from which no curve is promised
WHY = {True: "steps this large visit heavy rows too seldom", False: "with steps this large outputs are not Gaussian"}
NARROW = 0.5  # of the stability edge from which the band is too narrow (it covers 0.84 in place of 0.90 at 0.6)
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


def choose_loss(asked: str | None, table: Table, notes: list[str]) -> str:
    """The loss asked for, if it fits the target; the squared loss by default: its theory is exact and has an edge."""
    if asked is None and table.classes is not None:
        other = "logistic" if len(table.classes) == 2 else "softmax"
        notes.append(
            f"Classes are learned by the squared loss, whose theory is exact; --loss {other} is forecast too, by an "
            "approximation that takes longer, and often classifies better."
        )
    if asked in (None, "square"):
        return "square"
    if table.classes is None:
        raise InputError(f"loss={asked} is for classes and '{table.target}' is a number", do="use --loss square")
    if asked == "logistic" and len(table.classes) > 2:
        raise InputError(
            f"loss=logistic is for two classes and '{table.target}' has {len(table.classes)}", do="use --loss softmax"
        )
    return str(asked)


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
            f"The covariance is full on the {leading} leading directions and diagonal on the other {p - leading}."
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
    notes.append(f"{rows} rows, the heaviest among them, stand for all {n} in the noise.")
    return covariance, rows


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


def weak_points(curve: xr.Dataset, edge: dict[str, Any] | None, training: Training) -> list[str]:
    """Where this forecast is not to be trusted to the last per cent, said beforehand."""
    said = []
    if edge is not None and "growth_factor" in edge:
        said.append(
            f"The step size is {edge['fraction']:.3g} times the stability edge: the mean loss doubles every "
            f"{edge['doubling_steps']:.3g} steps in the long run, carried by rare runs near the edge."
        )
        if training.shuffle == "epochs":
            said.append(
                "Edge and growth are those of batches drawn with replacement; shuffled epochs meet a heavy row once "
                "an epoch, and single runs can last much longer than the mean (--shuffle with-replacement to compare)."
            )
        return said
    if edge is not None and NARROW < edge["fraction"] <= 1:
        said.append(
            f"At {edge['fraction']:.2g} of the stability edge trust the mean, but not the band between runs: rare "
            "runs go much further."
        )
    if edge is not None and edge["fraction"] > 1:
        said.append(
            f"The largest step size is {edge['fraction']:.3g} times the stability edge: while the schedule is above "
            "it, losses grow and single runs differ widely."
        )
    stated = [float(curve[name].max()) for name in ("train_loss_tolerance", "test_loss_tolerance") if name in curve]
    if stated and max(stated) >= NOTICED:
        what = "shuffled epochs" if training.loss == "square" else f"the {training.loss} loss"
        said.append(
            f"Here the theory of {what} is an approximation that can be off by {100 * max(stated):.0f} % "
            f"({WHY[training.loss == 'square']}); the band is widened by it."
        )
    if stated and max(stated) > UNTRUSTED:
        said.append("Do not trust this curve beyond its shape: use a smaller step size, or train.")
    return said
