"""SARAH: the last estimate, corrected by the same samples at this point and at the one before."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..models.base import Params
from ..problems.base import Objective
from .base import count
from .gradients import Estimator, Minibatch
from .refresh import Refresh, to_refresh
from .svrg import check_sum, corrected, to_rows


class SARAH(Estimator):
    """g_t = grad_B(x_t) - grad_B(x_{t-1}) + g_{t-1}; g_t = grad(x_t) where it is refreshed.

    Its error is a sum of many small ones instead of one that grows with the distance from a snapshot. A step spends
    2 batch per-sample gradients, one that refreshes n.

    Args:
      rows: samples a step: a batch size (rows without replacement), or a sampling such as `Minibatch(8)`.
      refresh: when the full gradient is taken: a period in steps, or `Coin(period)` for the loopless variant (PAGE).

    Source: Nguyen, Liu, Scheinberg & Takac, ICML 2017; Kinoshita & Suzuki, NeurIPS 2022, for Langevin dynamics
    (kinoshita2022).
    """

    rows: Minibatch = eqx.field(converter=to_rows)
    refresh: Refresh = eqx.field(converter=to_refresh)

    def init(self, objective: Objective, params: Params) -> Any:
        last = params, jax.tree.map(jnp.zeros_like, params)
        return self.rows.init(objective, params), last

    def draw(self, key: jax.Array, objective: Objective) -> Any:
        return self.rows.draw(key, objective)

    def __call__(self, objective, params, memory, draw, t):
        order, (before, estimate) = memory
        index, order = self.rows.choose(objective, order, draw, t)
        renew = lambda: (objective.gradient(params), count(objective.n or 0))
        correct = lambda: (corrected(objective, params, before, estimate, index), count(2 * self.rows.batch))
        gradient, spent = jax.lax.cond(self.refresh(t), renew, correct)
        return gradient, (order, (params, gradient)), spent

    def check(self, objective: Objective) -> None:
        check_sum(self, objective)
