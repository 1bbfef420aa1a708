"""Momentum around any gradient estimator, in PyTorch's convention: v <- m v + g, step along v (Nesterov: g + m v)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import InputError
from ..models.base import Params, is_known, to_real
from ..problems.base import Objective
from .gradients import Estimator


class Momentum(Estimator):
    """Heavy ball, or Nesterov's variant; the velocity lies in the estimator's memory.

    Args:
      gradient: the estimator of g.
      momentum: m in [0, 1).
      nesterov: step along g + m v in place of v.

    Source: Polyak, USSR Comput. Math. 1964; Sutskever, Martens, Dahl & Hinton, ICML 2013 (Nesterov's form).
    """

    gradient: Estimator
    momentum: jax.Array = eqx.field(converter=to_real)
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if is_known(self.momentum) and not 0 <= float(self.momentum) < 1:
            raise InputError(f"momentum={float(self.momentum):g} is outside [0, 1)")

    def init(self, objective: Objective, params: Params) -> Any:
        return self.gradient.init(objective, params), jax.tree.map(jnp.zeros_like, params)

    def draw(self, key: jax.Array, objective: Objective) -> Any:
        return self.gradient.draw(key, objective)

    def __call__(self, objective, params, memory, draw, t):
        inner, velocity = memory
        gradient, inner, spent = self.gradient(objective, params, inner, draw, t)
        velocity = jax.tree.map(lambda v, g: self.momentum * v + g, velocity, gradient)
        ahead = lambda v, g: g + self.momentum * v
        direction = jax.tree.map(ahead, velocity, gradient) if self.nesterov else velocity
        return direction, (inner, velocity), spent

    def check(self, objective: Objective) -> None:
        self.gradient.check(objective)
