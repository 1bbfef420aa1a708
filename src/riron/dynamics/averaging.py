"""The average of the iterates from a given step on (Polyak & Ruppert), around any dynamics."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ..errors import InputError
from ..models.base import Params, is_known
from ..problems.base import Objective
from .base import Dynamics


def _to_step(step: ArrayLike) -> jax.Array:
    return jnp.asarray(step, jnp.int32)


class Averaged(Dynamics):
    """A dynamics whose parameters are the average of its iterates `start`, `start` + 1, ...; the iterate before that.

    Iterate 0 is the starting point. The averaging changes what is measured and not how it learns.

    Args:
      inner: the dynamics that learns.
      start: first iterate of the average, >= 0. Swept as `dynamics.start`.

    Source: Polyak & Juditsky, SIAM J. Control Optim. 1992.
    """

    inner: Dynamics
    start: jax.Array = eqx.field(converter=_to_step)

    def __check_init__(self):
        if is_known(self.start) and int(self.start) < 0:
            raise InputError(f"start={int(self.start)} must be a step >= 0")

    def init(self, objective: Objective, params: Params) -> tuple[Any, Params]:
        return self.inner.init(objective, params), params

    def draw(self, key: jax.Array, objective: Objective, shape: Params) -> Any:
        return self.inner.draw(key, objective, shape)

    def step(self, objective: Objective, state: Any, draw: Any, t: jax.Array) -> tuple[Any, jax.Array]:
        inner, average = state
        inner, spent = self.inner.step(objective, inner, draw, t)
        # Step t makes iterate t + 1. A running mean: a running sum would lose digits over long runs.
        count = jnp.maximum(t + 1 - self.start, 0) + 1
        move = lambda a, x: jnp.where(count > 1, a + (x - a) / count.astype(a.dtype), x)
        return (inner, jax.tree.map(move, average, self.inner.params(inner))), spent

    def params(self, state: Any) -> Params:
        return state[1]

    def measure(self, objective: Objective, state: Any) -> dict[str, jax.Array]:
        return self.inner.measure(objective, state[0])

    def check(self, objective: Objective) -> None:
        self.inner.check(objective)

    @property
    def horizon(self) -> int | None:
        return self.inner.horizon


def average(dynamics: Dynamics, start: ArrayLike = 0) -> Averaged:
    """`dynamics`, measured at the average of its iterates from step `start` on (before it: at the iterate).

    Raises:
      InputError: a negative start.
    """
    return Averaged(dynamics, start)
