"""What every dynamics must offer the lab: a random draw apart from a deterministic step."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..models.base import Params
from ..problems.base import Objective


class Dynamics(eqx.Module):
    """How it learns. No key and no clock in the state: the lab owns both, and `t` is shared by all seeds."""

    @abc.abstractmethod
    def init(self, objective: Objective, params: Params) -> Any:
        """The state at the start."""

    @abc.abstractmethod
    def draw(self, key: jax.Array, objective: Objective, shape: Params) -> Any:
        """Everything random in one step; `shape` is the parameters' tree of shapes. Values are never looked at."""

    @abc.abstractmethod
    def step(self, objective: Objective, state: Any, draw: Any, t: jax.Array) -> tuple[Any, jax.Array]:
        """One deterministic step: the new state, and how many per-sample gradients it spent (int32)."""

    @abc.abstractmethod
    def params(self, state: Any) -> Params:
        """The parameters in a state."""

    def measure(self, objective: Objective, state: Any) -> dict[str, jax.Array]:
        """What is recorded of the algorithm's own state, beside the problem's measures."""
        return {}

    def check(self, objective: Objective) -> None:
        """InputError if this objective lacks what the dynamics needs; called with shapes only, before compiling."""
        return None

    @property
    def horizon(self) -> int | None:
        """The number of steps that are defined; None without a limit."""
        return None


def count(number: int | jax.Array) -> jax.Array:
    """A number of per-sample gradients, as the lab sums them."""
    return jnp.asarray(number, jnp.int32)
