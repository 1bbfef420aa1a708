"""A law to sample from, given by its log-density as a function of the position, in the convention of blackjax."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..models.base import Model, Params, is_known, to_real
from . import losses
from .base import Data, Law, Objective, Problem


class Position(Model):
    """Parameters that are not the weights of a function: a point, and where it starts."""

    start: Params

    def init(self, key: jax.Array) -> Params:
        return self.start

    def __call__(self, params: Params, X: jax.Array) -> jax.Array:
        raise InputError("a position has no outputs: it is no model of data")


class Potential(Objective):
    """minus the log-density: one term, not a sum, so nothing of it can be drawn; an evaluation counts as one."""

    logdensity_fn: Callable[[Params], jax.Array] = eqx.field(static=True)
    model: Position
    loss: losses.Loss = eqx.field(static=True, default=losses.squared)
    ridge: jax.Array = eqx.field(converter=to_real, default=0.0)

    @property
    def n(self) -> int:
        return 1

    def outputs(self, params: Params, index: Any = None) -> tuple[jax.Array, jax.Array]:
        raise InputError("a log-density has no outputs and no targets")

    def choose(self, key: jax.Array, batch: int) -> Any:
        raise InputError("a log-density is a single term", do="pass the data and a loss where samples are drawn")

    def losses(self, params: Params, index: Any = None) -> jax.Array:
        return -self.logdensity_fn(params)[None]

    def penalty(self, params: Params) -> jax.Array:
        return jnp.zeros(())


class NoLaw(Law):
    """There are no data."""

    def sample(self, key: jax.Array, n: int) -> Data:
        raise InputError("a log-density has no data to draw", do="leave n out")


class LogDensity(Problem):
    """Sampling from exp(logdensity_fn(position)); use it at temperature 1 (`ula`, `mala`).

    Pass it to `simulate` with neither n nor data. It measures log_density; `Chains` records the positions.

    Args:
      logdensity_fn: position (any tree of arrays) -> a number, up to a constant; traceable by JAX.
      start: the position at the start, a tree of arrays or numbers, or a function of a key that draws one.

    Raises:
      InputError: a value at the start that is not a finite number, or a function that does not give one number.
    """

    logdensity_fn: Callable[[Params], jax.Array] = eqx.field(static=True)
    model: Position
    draw_start: Callable[[jax.Array], Params] | None = eqx.field(static=True)
    loss: losses.Loss = eqx.field(static=True)
    ridge: jax.Array

    def __init__(self, logdensity_fn: Callable[[Params], jax.Array], start: Params | Callable[[jax.Array], Params]):
        if not callable(logdensity_fn):
            raise InputError("logdensity_fn is not a function", do="pass a function of the position")
        self.logdensity_fn, self.loss, self.ridge = logdensity_fn, losses.squared, to_real(0.0)
        self.draw_start = start if callable(start) else None
        first = start(jax.random.key(0)) if callable(start) else start
        self.model = Position(jax.tree.map(to_real, first))
        _check_value(logdensity_fn, self.model.start)

    @property
    def law(self) -> Law:
        return NoLaw()

    @property
    def data(self) -> tuple:
        """No table: the density is given."""
        return ()

    def objective(self, data: Any = ()) -> Potential:
        return Potential(logdensity_fn=self.logdensity_fn, model=self.model)

    def initial(self, key: jax.Array) -> Params:
        if self.draw_start is None:
            return self.model.start
        return jax.tree.map(to_real, self.draw_start(key))

    def measure(self, objective: Objective, params: Params) -> dict[str, jax.Array]:
        return {"log_density": self.logdensity_fn(params)}


def _check_value(logdensity_fn: Callable, start: Params) -> None:
    shape = jax.tree.map(jnp.shape, jax.eval_shape(logdensity_fn, start))
    if shape != ():
        raise InputError(f"logdensity_fn gives {shape} and not one number", do="sum over its terms")
    if not all(map(is_known, jax.tree.leaves(start))):
        return
    value = float(logdensity_fn(start))
    if not np.isfinite(value):
        raise InputError(f"logdensity_fn is {value} at the start", do="start where the density is positive")
