"""SVRG: a minibatch gradient corrected by the same samples at a snapshot, where the full gradient is known."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..models.base import Params
from ..problems.base import Objective
from .base import count
from .gradients import Estimator, Full, Minibatch, WithoutReplacement
from .linear_models import batch_gradient
from .refresh import Refresh, to_refresh


def to_rows(value: int | Minibatch) -> Minibatch:
    """A whole number as that many different rows, a sampling as it is."""
    return value if isinstance(value, Minibatch) else WithoutReplacement(value)


class SVRG(Estimator):
    """g = grad_B(x) - grad_B(snapshot) + grad(snapshot); where the snapshot is renewed, g = grad(x) itself.

    A step spends 2 batch per-sample gradients, one that renews the snapshot n.

    Args:
      rows: samples a step: a batch size (rows without replacement), or a sampling such as `Minibatch(8)`.
      refresh: when the snapshot is renewed: a period in steps, or `Coin(period)` for the loopless variant.

    Source: Johnson & Zhang, NIPS 2013; Kinoshita & Suzuki, NeurIPS 2022, for Langevin dynamics (kinoshita2022).
    """

    rows: Minibatch = eqx.field(converter=to_rows)
    refresh: Refresh = eqx.field(converter=to_refresh)

    def init(self, objective: Objective, params: Params) -> Any:
        snapshot = params, jax.tree.map(jnp.zeros_like, params)
        return self.rows.init(objective, params), snapshot

    def draw(self, key: jax.Array, objective: Objective) -> Any:
        return self.rows.draw(key, objective)

    def __call__(self, objective, params, memory, draw, t):
        order, snapshot = memory
        index, order = self.rows.choose(objective, order, draw, t)

        def renew():
            full = objective.gradient(params)
            return full, (params, full), count(objective.n or 0)

        def correct():
            centre, anchor = snapshot
            return corrected(objective, params, centre, anchor, index), snapshot, count(2 * self.rows.batch)

        # A condition on the shared step: only one of the two is computed, for all seeds together.
        gradient, snapshot, spent = jax.lax.cond(self.refresh(t), renew, correct)
        return gradient, (order, snapshot), spent

    def check(self, objective: Objective) -> None:
        check_sum(self, objective)


def corrected(objective: Objective, params: Params, centre: Params, anchor: Params, index: Any) -> Params:
    """grad_B(params) - grad_B(centre) + anchor."""
    here, there = batch_gradient(objective, params, index), batch_gradient(objective, centre, index)
    return jax.tree.map(lambda a, b, c: a - b + c, here, there, anchor)


def check_sum(estimator: Any, objective: Objective) -> None:
    """InputError unless rows can be drawn from the objective and its full gradient taken."""
    estimator.rows.check(objective)
    Full().check(objective)
