"""Inner samplers of outer loops: particles of the Gibbs measure of frozen dual variables."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import InputError
from ..problems.base import Objective
from ..problems.mean_field import MeanFieldSum
from .base import Dynamics
from .tempered_smc import Ladder, pilot_rungs, production


class InnerSampler(eqx.Module):
    """Particles of exp(-(V_g(w) + ridge |w|^2 / 2) / T), given the frozen objective and particles to start from."""

    @abc.abstractmethod
    def draw(self, key: jax.Array, objective: Objective, shape: Any) -> Any:
        """Everything random in one call."""

    @abc.abstractmethod
    def __call__(self, objective: MeanFieldSum, W: jax.Array, draw: Any, temperature: jax.Array) -> jax.Array:
        """The new particles (N, p)."""


class Chains(InnerSampler):
    """`steps` steps of a dynamics, from the particles there are (warm start).

    Local chains keep the weights of the modes that they start with: use them where the potential changes little from
    call to call, or has one mode.

    Args:
      inner: Langevin dynamics at the temperature of the problem.
      steps: a call.
    """

    inner: Dynamics
    steps: int = eqx.field(static=True)

    def __check_init__(self):
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps={self.steps!r} must be a whole number >= 1")

    def draw(self, key: jax.Array, objective: Objective, shape: Any) -> Any:
        return jax.vmap(lambda k: self.inner.draw(k, objective, shape))(jax.random.split(key, self.steps))

    def __call__(self, objective, W, draw, temperature):
        step = lambda state, x: (self.inner.step(objective, state, x[0], x[1])[0], None)
        times = jnp.arange(self.steps)
        state, _ = jax.lax.scan(step, self.inner.init(objective, W), (draw, times))
        return self.inner.params(state)


class Tempering(InnerSampler):
    """Tempered sequential Monte Carlo from the reference Gaussian: right weights of all modes, no warm start.

    Args:
      moves: Metropolis-adjusted moves a rung.
      pilot: particles of the pilot run that sets the ladder.
    """

    moves: int = eqx.field(static=True, default=6)
    pilot: int = eqx.field(static=True, default=200)

    def draw(self, key: jax.Array, objective: Objective, shape: Any) -> jax.Array:
        return jax.random.split(key)

    def __call__(self, objective, W, draw, temperature):
        args, sd = (objective, temperature), jnp.sqrt(temperature / objective.ridge)
        shape = {"dim": W.shape[1], "dtype": W.dtype}
        ladder = Ladder(*pilot_rungs(gibbs_potential, args, draw[0], sd, 0.8, 12, particles=self.pilot, **shape))
        shape |= {"particles": len(W), "groups": 1, "together": 1}
        points, *_ = production(gibbs_potential, args, draw[1], sd, ladder, self.moves, **shape)
        return points[0]


def gibbs_potential(args: tuple[MeanFieldSum, jax.Array], W: jax.Array) -> jax.Array:
    """V_g(w) / T at particles W (N, p): (N,), without the Gaussian part."""
    objective, temperature = args
    return objective.model.neuron.features(W, objective.X) @ objective.y / (objective.n * temperature)
