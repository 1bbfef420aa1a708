"""MALA: a Langevin step as a proposal that is accepted or refused, so that the law in the long run is exact."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ..checks import as_positive
from ..models.base import Params, is_known, to_real
from ..problems.base import Objective
from .base import Dynamics, count
from .gradients import Full
from .noises import Gaussian


class State(NamedTuple):
    params: Params
    energy: jax.Array
    """objective / temperature, at the parameters."""
    gradient: Params
    acceptance: jax.Array
    """Mean probability of acceptance of the steps so far."""


class Draw(NamedTuple):
    noise: Params
    uniform: jax.Array


class MALA(Dynamics):
    """The Metropolis-adjusted Langevin algorithm: exact for exp(-objective / temperature) at any step size.

    It measures `acceptance`, the mean over the steps so far. A proposal where the objective is not finite is refused.
    For particles the law is that of the whole system, exp(-N objective / temperature). A step spends n gradients, and
    those of the start are counted at step 0.

    Args:
      step_size: > 0, as in `langevin`; an acceptance near 0.57 is best in many dimensions. Swept as
        `dynamics.step_size`.
      temperature: > 0. Swept as `dynamics.temperature`.

    Raises:
      InputError: a number that is not > 0.

    Source: Roberts & Tweedie, Bernoulli 1996; Roberts & Rosenthal, J. R. Statist. Soc. B 1998 (the acceptance).
    """

    step_size: jax.Array
    temperature: jax.Array

    def __init__(self, step_size: ArrayLike, temperature: ArrayLike = 1.0):
        self.step_size, self.temperature = to_real(step_size), to_real(temperature)
        for name, value in {"step_size": self.step_size, "temperature": self.temperature}.items():
            if is_known(value):
                as_positive(float(value), name)

    def init(self, objective: Objective, params: Params) -> State:
        energy, gradient = self._energy(objective, params)
        return State(params, energy, gradient, jnp.zeros(()))

    def draw(self, key: jax.Array, objective: Objective, shape: Params) -> Draw:
        for_noise, for_choice = jax.random.split(key)
        return Draw(Gaussian(1.0).draw(for_noise, shape), jax.random.uniform(for_choice))

    def step(self, objective: Objective, state: State, draw: Draw, t: jax.Array) -> tuple[State, jax.Array]:
        h, spread = self.step_size, jnp.sqrt(2 * self.step_size * self.temperature)
        move = lambda x, g, z: x - h * g + spread * z
        proposal = jax.tree.map(move, state.params, state.gradient, draw.noise)
        energy, gradient = self._energy(objective, proposal)
        # The noise that would lead back from the proposal.
        back = jax.tree.map(lambda x, y, g: (x - y + h * g) / spread, state.params, proposal, gradient)
        log_ratio = state.energy - energy + (_square(draw.noise) - _square(back)) / 2
        chance = jnp.nan_to_num(jnp.exp(jnp.minimum(log_ratio, 0.0)), nan=0.0)
        accepted = draw.uniform < chance
        choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)
        params, energy, gradient = choose((proposal, energy, gradient), (state.params, state.energy, state.gradient))
        acceptance = state.acceptance + (chance - state.acceptance) / (t + 1)
        n = objective.n or 0
        return State(params, energy, gradient, acceptance), count(n + (t == 0) * n)

    def params(self, state: State) -> Params:
        return state.params

    def measure(self, objective: Objective, state: State) -> dict[str, jax.Array]:
        return {"acceptance": state.acceptance}

    def check(self, objective: Objective) -> None:
        Full().check(objective)

    def _energy(self, objective: Objective, params: Params) -> tuple[jax.Array, Params]:
        value, gradient = jax.value_and_grad(objective.value)(params)
        mobility = objective.model.mobility
        return mobility * value / self.temperature, jax.tree.map(lambda g: mobility * g, gradient)


def _square(tree: Params) -> jax.Array:
    return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


def mala(*, step_size: ArrayLike, temperature: ArrayLike = 1.0) -> MALA:
    """The Metropolis-adjusted Langevin algorithm; see `MALA`."""
    return MALA(step_size, temperature)
