"""The positions of a chain on the record, beside what the problem measures."""

from typing import Any

import jax

from ..models.base import Params
from .base import Around, Data, Objective, Problem


class Chains(Around):
    """A problem that also records its parameters: `simulate` gives chains, and `to_arviz` hands them on.

    Each leaf of the parameters becomes a variable: the keys of a dictionary (nested ones joined by a dot), or
    `position` for a plain array.

    Args:
      problem: any problem, a `LogDensity` or one with data.
    """

    def __init__(self, problem: Problem):
        super().__init__(problem)

    @property
    def data(self) -> Any:
        return getattr(self.problem, "data", None)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        shapes = named_leaves(jax.eval_shape(self.problem.initial, jax.random.key(0)))
        axes = {name: tuple(f"{name}_dim_{k}" for k in range(len(leaf.shape))) for name, leaf in shapes.items()}
        return {**self.problem.dims, **axes}

    def sample(self, key: jax.Array, n: int) -> Data:
        return self.problem.sample(key, n)

    def objective(self, data: Any) -> Objective:
        return self.problem.objective(data)

    def measure(self, objective: Objective, params: Params) -> dict[str, jax.Array]:
        return {**self.problem.measure(objective, params), **named_leaves(params)}


def named_leaves(params: Params) -> dict[str, Any]:
    """Each leaf of a tree by its path, `position` if the tree is one array."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator=".") or "position": leaf for path, leaf in leaves}
