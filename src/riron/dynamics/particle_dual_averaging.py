"""Particle dual averaging: outer steps average the dual variables, an inner sampler follows their Gibbs measure."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import InputError
from ..models.base import to_real
from ..problems.base import Objective
from ..problems.mean_field import MeanFieldSum, frozen
from .base import Dynamics, count
from .gradients import need_rows
from .inner_samplers import InnerSampler, Tempering


class PDAState(NamedTuple):
    W: jax.Array
    """(N, p) particles of the Gibbs measure now."""
    total: jax.Array
    """(n,) S_i = sum over outer steps T of T loss'(f_T(x_i))."""
    g: jax.Array
    """(n,) averaged dual variables: those of the Gibbs measure now."""


class ParticleDualAveraging(Dynamics):
    """One step is one outer iteration T = 1, 2, ...: S += T loss'(f); then particles of
    exp(-[2 / ((T+1)(T+2)) (1/n) sum_i S_i h_w(x_i) + T / (T+2) lam1 |w|^2] / lam2).

    With full gradients the objective of the Gibbs measure falls like 1/T^2, with one random sample a step like 1/T.

    Args:
      temperature: lam2.
      batch: None for all samples; else that many independent rows a step, as an unbiased estimate.
      sampler: of the inner loop; tempered sequential Monte Carlo unless given. `Chains(langevin(...), 100)` is the
        inner loop of the paper.

    Source: Nitanda, Wu & Suzuki, NeurIPS 2021.
    """

    temperature: jax.Array = eqx.field(converter=to_real)
    batch: int | None = eqx.field(static=True, default=None)
    sampler: InnerSampler = Tempering()

    def init(self, objective: Objective, params: jax.Array) -> PDAState:
        n = objective.n or 0
        zeros = jnp.zeros(n, params.dtype)
        return PDAState(params, zeros, zeros)

    def draw(self, key: jax.Array, objective: Objective, shape: Any) -> tuple:
        for_rows, for_sampler = jax.random.split(key)
        rows = () if self.batch is None else objective.choose(for_rows, self.batch)
        return rows, self.sampler.draw(for_sampler, objective, shape)

    def step(self, objective: MeanFieldSum, state: PDAState, draw: tuple, t: jax.Array) -> tuple[PDAState, jax.Array]:
        rows, inner = draw
        n = objective.n
        T = (t + 1).astype(state.total.dtype)
        f, y = objective.outputs(state.W, None if self.batch is None else rows)
        slopes = jax.vmap(jax.grad(objective.loss))(f, y)
        if self.batch is None:
            total = state.total + T * slopes
        else:
            total = state.total.at[rows].add(T * slopes * (n / self.batch))
        g = 2 / ((T + 1) * (T + 2)) * total
        potential = frozen(objective, g, T / (T + 2) * objective.ridge)
        W = self.sampler(potential, state.W, inner, self.temperature)
        return PDAState(W, total, g), count(n if self.batch is None else self.batch)

    def params(self, state: PDAState) -> jax.Array:
        return state.W

    def measure(self, objective: Objective, state: PDAState) -> dict[str, jax.Array]:
        return {"dual": state.g}

    def check(self, objective: Objective) -> None:
        need_mean_field(objective, "particle dual averaging")
        if self.batch is not None and self.batch > (objective.n or 0):
            raise InputError(f"batch={self.batch} is larger than the {objective.n} samples there are", do="lower it")


def need_mean_field(objective: Objective, what: str) -> None:
    """InputError unless the objective is a finite sum over a mean-field network."""
    need_rows(objective, what)
    if not isinstance(objective, MeanFieldSum):
        raise InputError(f"{what} needs particles", do="pass a MeanFieldProblem")
