"""Gradient estimator x noise x geometry: first-order dynamics in three slots."""

from typing import Any, NamedTuple

import equinox as eqx
import jax

from ..models.base import Params
from ..problems.base import Objective
from .base import Dynamics
from .geometries import Euclidean, Geometry
from .gradients import Estimator
from .noises import Noise, NoNoise
from .schedules import Schedule, at, to_step_size


class State(NamedTuple):
    params: Params
    memory: Any
    """What the gradient estimator remembers."""


class Draw(NamedTuple):
    gradient: Any
    noise: Any


class Assembly(Dynamics):
    """params <- params - step_size direction(gradient) + spread(noise).

    Args:
      step_size: a number, an array with one number for each step, or a schedule.
      gradient: the estimator of the gradient.
      noise: what is added to a step.
      geometry: the metric.
    """

    step_size: Schedule | jax.Array = eqx.field(converter=to_step_size)
    gradient: Estimator
    noise: Noise = NoNoise()
    geometry: Geometry = Euclidean()

    def init(self, objective: Objective, params: Params) -> State:
        return State(params, self.gradient.init(objective, params))

    def draw(self, key: jax.Array, objective: Objective, shape: Params) -> Draw:
        if isinstance(self.noise, NoNoise):
            return Draw(self.gradient.draw(key, objective), ())
        for_gradient, for_noise = jax.random.split(key)
        return Draw(self.gradient.draw(for_gradient, objective), self.noise.draw(for_noise, shape))

    def step(self, objective: Objective, state: State, draw: Draw, t: jax.Array) -> tuple[State, jax.Array]:
        gradient, memory, spent = self.gradient(objective, state.params, state.memory, draw.gradient, t)
        step_size = at(self.step_size, t)
        move = lambda p, g: p - step_size * g
        params = jax.tree.map(move, state.params, self.geometry.direction(gradient))
        noise = self.noise(draw.noise, step_size)
        if noise is not None:
            params = jax.tree.map(lambda p, x: p + x, params, self.geometry.spread(noise))
        return State(params, memory), spent

    def params(self, state: State) -> Params:
        return state.params

    def check(self, objective: Objective) -> None:
        self.gradient.check(objective)

    @property
    def horizon(self) -> int | None:
        return self.step_size.horizon if isinstance(self.step_size, Schedule) else None
