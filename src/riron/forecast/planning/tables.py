"""A table as a mean-field problem: standardised columns, one target."""

from typing import Any

import numpy as np

from ...models.neurons import to_neuron
from ...problems.mean_field import MeanFieldProblem
from ..features import make_features
from ..tables.reading import read_table


def as_mean_field(
    data: Any, *, target: str | None, neuron: str, scale: float, lam1: float, lam2: float, seed: int = 0
) -> tuple[MeanFieldProblem, list[str]]:
    """The training rows of a table as a mean-field problem, and sentences on what was done.

    Columns are standardised and divided by the square root of their number. A numeric target is centred and scaled to
    unit variance (squared loss); classes become the largest against the rest (logistic loss).

    Args: as for `riron plan`; data as for `riron.forecast.read_table`.
    """
    table = read_table(data, target=target, seed=seed)
    features = make_features(table, "raw", seed)
    X = features.F[:, :-1]  # without the constant: the neurons have biases
    notes = [
        f"{len(X)} training rows, {X.shape[1]} columns, standardised and divided by the square root of their number"
    ]
    if features.classes is None:
        y, loss = features.Y[:, 0], "squared"
        notes.append("the target is centred and scaled to unit variance; squared loss")
    else:
        largest = int(np.argmax(features.Y.sum(axis=0)))
        y, loss = 2 * features.Y[:, largest] - 1, "logistic"
        notes.append(f"class {features.classes[largest]!r} against the rest; logistic loss")
    unit = to_neuron(neuron, scale=scale)
    return MeanFieldProblem(X / X.shape[1] ** 0.5, y, neuron=unit, loss=loss, lam1=lam1, lam2=lam2), notes
