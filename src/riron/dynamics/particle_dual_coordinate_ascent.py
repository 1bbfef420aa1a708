"""Particle dual coordinate ascent: one dual variable at a time, in closed form, between refreshes of the particles."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import InputError
from ..models.base import to_real
from ..problems.base import Objective
from ..problems.losses import Loss
from ..problems.mean_field import MeanFieldSum, frozen
from ..problems.sampling import uniform_index
from .base import Dynamics, count
from .inner_samplers import InnerSampler, Tempering
from .particle_dual_averaging import need_mean_field

HALVINGS = 50


class PSDCAState(NamedTuple):
    W: jax.Array
    """(N, p) particles of the Gibbs measure at the last refresh."""
    g: jax.Array
    """(n,) dual variables."""


class ParticleDualCoordinateAscent(Dynamics):
    """One step is `updates` dual updates and a refresh of the particles.

    An update takes a random i, the mean hbar of h(x_i) under the Gibbs measure of g, and replaces g_i by the maximiser
    of -loss*(g_i + d) + d hbar - s d^2 / 2, s = R^2 / (lam2 n): the slope loss'(z) at the root of z + s loss'(z) =
    hbar + s g_i, so that no conjugate is needed. Until the next refresh the particles are reweighted, by
    exp(-d h(x_i) / (lam2 n)).

    The expected duality gap of a (1/gamma)-smooth loss contracts by 1 - (1/n) gamma / (gamma + s) an update.

    Args:
      temperature: lam2.
      updates: dual updates in a step, between two refreshes; n of them are an epoch.
      sampler: makes the particles anew; tempered sequential Monte Carlo unless given. Langevin steps from the particles
        that there are do not suffice: the mode weights lag behind, and the gap stays of order 1.

    Source: Oko, Suzuki, Nitanda & Wu, ICLR 2022.
    """

    temperature: jax.Array = eqx.field(converter=to_real)
    updates: int = eqx.field(static=True, default=10)
    sampler: InnerSampler = Tempering()

    def __check_init__(self):
        if isinstance(self.updates, bool) or not isinstance(self.updates, int) or self.updates < 1:
            raise InputError(f"updates={self.updates!r} must be a whole number >= 1")

    def init(self, objective: Objective, params: jax.Array) -> PSDCAState:
        return PSDCAState(params, jnp.zeros(objective.n or 0, params.dtype))

    def draw(self, key: jax.Array, objective: Objective, shape: Any) -> tuple:
        for_rows, for_sampler = jax.random.split(key)
        return uniform_index(for_rows, objective.n or 1, (self.updates,)), self.sampler.draw(
            for_sampler, objective, shape
        )

    def step(self, objective: MeanFieldSum, state: PSDCAState, draw: tuple, t: jax.Array) -> tuple:
        rows, inner = draw
        n, neuron = objective.n, objective.model.neuron
        scale = self.temperature * n
        s = (neuron.bound or 0.0) ** 2 / scale
        # At the start g = loss'(0), whose Gibbs measure the first step makes before it updates anything.
        start = jax.vmap(jax.grad(objective.loss))(jnp.zeros_like(state.g), objective.y)
        g = jnp.where(t == 0, start, state.g)
        H = neuron.features(state.W, objective.X[rows])  # (N, updates)
        # The particles of step 0 are those of the reference: they are reweighted to the Gibbs measure of loss'(0).
        begin = -neuron.features(state.W, objective.X) @ start / scale

        def update(carry, place):
            g, log_w = carry
            k, i = place
            h = H[:, k]
            mean = jnp.sum(jax.nn.softmax(log_w) * h)
            new = dual_update(objective.loss, objective.y[i], g[i], mean, s)
            return (g.at[i].set(new), log_w - (new - g[i]) * h / scale), None

        log_w = jnp.where(t == 0, begin, 0.0)
        (g, _), _ = jax.lax.scan(update, (g, log_w), (jnp.arange(self.updates), rows))
        W = self.sampler(frozen(objective, g, objective.ridge), state.W, inner, self.temperature)
        return PSDCAState(W, g), count(self.updates)

    def params(self, state: PSDCAState) -> jax.Array:
        return state.W

    def measure(self, objective: MeanFieldSum, state: PSDCAState) -> dict[str, jax.Array]:
        return {"dual": state.g}

    def check(self, objective: Objective) -> None:
        need_mean_field(objective, "particle dual coordinate ascent")
        assert isinstance(objective, MeanFieldSum)
        if objective.model.neuron.bound is None:
            raise InputError(
                "the neuron is unbounded",
                why="particle dual coordinate ascent needs R = sup|h| for its constant s = R^2 / (lam2 n)",
                do="use a bounded neuron (tanh, sigmoid, relu-clipped), or state the bound of your function",
            )


def dual_update(loss: Loss, y: jax.Array, g: jax.Array, mean: jax.Array, s: jax.Array) -> jax.Array:
    """argmax over g' of -loss*(g') + (g' - g) mean - s (g' - g)^2 / 2, for any convex differentiable loss.

    g' = loss'(z) at the root of the increasing function z + s loss'(z) - s g - mean, whose slope is at least 1: it lies
    within |its value at `mean`| of `mean`, and is found by halving.
    """
    slope = jax.grad(loss)
    miss = lambda z: z + s * (slope(z, y) - g) - mean
    reach = jnp.abs(miss(mean))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        above = miss(middle) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (mean - reach, mean + reach))
    return slope((low + high) / 2, y)
