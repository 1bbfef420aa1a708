"""Gradients of linear models by hand: the slopes of the losses times the rows.

The gradient of sample i is slope_i x_i, with one number slope_i for each output. It costs two products where automatic
differentiation takes more, and a control variate can keep the numbers of all samples at its centre.
"""

from typing import Any, NamedTuple, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp

from ..models.base import Params
from ..models.linear import Linear
from ..problems.base import FiniteSum, Objective


class Stretch(eqx.Module):
    """Rows start .. start + length - 1 of a table: read in one piece, where single rows are read number by number."""

    start: jax.Array
    length: int = eqx.field(static=True)

    @property
    def index(self) -> jax.Array:
        """(length,) row numbers."""
        return self.start + jnp.arange(self.length, dtype=jnp.int32)


class Slopes(NamedTuple):
    """Derivatives of the losses by the outputs, (B,) or (B, K), and the rows (B, d) that they belong to."""

    values: jax.Array
    rows: jax.Array


def is_linear(objective: Objective) -> TypeGuard[FiniteSum]:
    """Whether the objective is a plain sum of losses of a linear model."""
    return type(objective) is FiniteSum and type(objective.model).__call__ is Linear.__call__


def take(table: jax.Array, index: Any) -> jax.Array:
    """The chosen rows of a table, all for None."""
    if index is None:
        return table
    if isinstance(index, Stretch):
        return jax.lax.dynamic_slice_in_dim(table, index.start, index.length)
    return table.at[index].get(mode="promise_in_bounds")


def slopes(objective: FiniteSum, params: jax.Array, index: Any = None) -> Slopes:
    """Of the chosen samples, all for None."""
    rows = take(objective.X, index)
    return Slopes(jax.vmap(jax.grad(objective.loss))(rows @ params.T, take(objective.y, index)), rows)


def mean_gradient(found: Slopes) -> jax.Array:
    """Mean of slope_i x_i."""
    return found.values.T @ found.rows / len(found.rows)


def batch_gradient(objective: Objective, params: Params, index: Any) -> Params:
    """`objective.gradient(params, index)`, by hand where the model is linear."""
    if not is_linear(objective):
        return objective.gradient(params, index.index if isinstance(index, Stretch) else index)
    return mean_gradient(slopes(objective, params, index)) + jax.grad(objective.penalty)(params)
