"""One long run of a particle dynamics, its particles spread over several devices where there are."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem
from .base import Dynamics

BLOCK = 50
"""Steps in one compiled call."""


def shard_particles(W: jax.Array, devices: Sequence[Any] | None = None) -> jax.Array:
    """Particles W (N, p) spread over devices by rows; all devices there are unless given.

    Raises:
      InputError: a number of particles that the devices do not divide.
    """
    devices = list(jax.devices() if devices is None else devices)
    if len(W) % len(devices):
        fit = -(-len(W) // len(devices)) * len(devices)
        raise InputError(f"{len(W)} particles cannot be spread over {len(devices)} devices", do=f"use {fit} particles")
    mesh = Mesh(np.array(devices), ("particles",))
    return jax.device_put(W, NamedSharding(mesh, PartitionSpec("particles")))


def run_particles(
    problem: MeanFieldProblem,
    dynamics: Dynamics,
    key: jax.Array,
    *,
    steps: int,
    W: jax.Array | None = None,
    devices: Sequence[Any] | None = None,
) -> jax.Array:
    """The particles after `steps` steps of one run; on several devices each keeps its own, and they exchange outputs.

    Args:
      problem: a MeanFieldProblem.
      dynamics: such as `mfld(problem, step_size=0.1)`.
      key: of start and noise.
      steps: of the dynamics.
      W: (N, p) particles at the start; drawn by the problem unless given.
      devices: to spread them over; None leaves them where they are.

    Raises:
      InputError: particles that the devices do not divide; a run that diverged, with the block of steps where.
    """
    for_start, for_steps = jax.random.split(key)
    start = problem.initial(for_start) if W is None else W
    start = start if devices is None else shard_particles(start, devices)
    objective = problem.objective(problem.data)
    dynamics.check(objective)
    state = dynamics.init(objective, start)
    for first in range(0, steps, BLOCK):
        times = jnp.arange(first, min(first + BLOCK, steps))
        state = _advance(objective, dynamics, state, for_steps, times)
        if not bool(jnp.isfinite(dynamics.params(state)).all()):
            raise InputError(
                f"the run diverged between steps {first} and {first + BLOCK}",
                do="lower the step size (`stable_step_size(problem)` names the edge at the start)",
            )
    return dynamics.params(state)


@eqx.filter_jit
def _advance(objective, dynamics, state, key, times):
    shape = jax.eval_shape(dynamics.params, state)

    def step(state, t):
        draw = dynamics.draw(jax.random.fold_in(key, t), objective, shape)
        return dynamics.step(objective, state, draw, t)[0], None

    return jax.lax.scan(step, state, times)[0]
