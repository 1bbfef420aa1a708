"""Step sizes that change with the step t: functions of t whose numbers are arrays, so that they can be swept."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..errors import InputError
from ..models.base import is_known, to_real


class Schedule(eqx.Module):
    """A step size for each step t = 0, 1, ..."""

    @abc.abstractmethod
    def __call__(self, t: jax.Array) -> jax.Array:
        """The step size of step t."""

    @property
    def horizon(self) -> int | None:
        """The number of steps that are defined; None without a limit."""
        return None


class Constant(Schedule):
    value: jax.Array = eqx.field(converter=to_real)

    def __call__(self, t: jax.Array) -> jax.Array:
        return self.value


class Linear(Schedule):
    """From `start` at t = 0 in a straight line to `end` at t = steps, constant from there."""

    start: jax.Array = eqx.field(converter=to_real)
    end: jax.Array = eqx.field(converter=to_real)
    steps: jax.Array = eqx.field(converter=to_real)

    def __call__(self, t: jax.Array) -> jax.Array:
        return self.start + (self.end - self.start) * jnp.clip(t / self.steps, 0, 1)


class Cosine(Schedule):
    """From `start` at t = 0 along half a cosine to `end` at t = steps, constant from there."""

    start: jax.Array = eqx.field(converter=to_real)
    steps: jax.Array = eqx.field(converter=to_real)
    end: jax.Array = eqx.field(converter=to_real, default=0.0)

    def __call__(self, t: jax.Array) -> jax.Array:
        phase = jnp.pi * jnp.clip(t / self.steps, 0, 1)
        return self.end + (self.start - self.end) * (1 + jnp.cos(phase)) / 2


class Warmup(Schedule):
    """Grows in a straight line over `steps` steps, (t + 1) / steps of the schedule's first value, then follows it."""

    schedule: Schedule
    steps: jax.Array = eqx.field(converter=to_real)

    def __call__(self, t: jax.Array) -> jax.Array:
        return jnp.minimum((t + 1) / self.steps, 1) * self.schedule(jnp.maximum(t - self.steps, 0))

    @property
    def horizon(self) -> int | None:
        inner = self.schedule.horizon
        return None if inner is None else inner + int(self.steps)


class Table(Schedule):
    """The step sizes themselves, one for each step."""

    values: jax.Array = eqx.field(converter=to_real)

    def __call__(self, t: jax.Array) -> jax.Array:
        return self.values[t]

    @property
    def horizon(self) -> int:
        return self.values.shape[-1]


def constant(value: ArrayLike) -> Constant:
    """The same step size at every step."""
    return Constant(value)


def linear(start: ArrayLike, end: ArrayLike, steps: ArrayLike) -> Linear:
    """From `start` to `end` in a straight line over `steps` steps, `end` from there."""
    return Linear(start, end, steps)


def cosine(start: ArrayLike, steps: ArrayLike, end: ArrayLike = 0.0) -> Cosine:
    """From `start` to `end` along half a cosine over `steps` steps, `end` from there."""
    return Cosine(start, steps, end)


def warmup(schedule: Schedule | ArrayLike, steps: ArrayLike) -> Warmup:
    """A straight rise over `steps` steps before a schedule (or a constant), whose time starts when the rise ends."""
    return Warmup(to_schedule(schedule), steps)


def table(values: ArrayLike) -> Table:
    """(T,) step sizes for the steps 0 .. T - 1; a longer run is refused."""
    return Table(values)


def to_step_size(value: Schedule | ArrayLike) -> Schedule | jax.Array:
    """A number as an array (which can be swept by its own name), a vector as a table, a schedule as it is."""
    if isinstance(value, Schedule):
        return value
    if callable(value):
        raise InputError("step_size is a plain function", do="pass table([f(t) for t in range(steps)])")
    numbers = np.asarray(value, dtype=float) if is_known(value) else jnp.asarray(value)
    if numbers.ndim > 1:
        raise InputError(
            f"step_size has shape {numbers.shape}", do="pass a number, one number for each step, or a schedule"
        )
    if is_known(numbers) and not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise InputError(f"step_size={value} must be finite and >= 0")
    return Table(numbers) if numbers.ndim == 1 else to_real(numbers)


def to_schedule(value: Schedule | ArrayLike) -> Schedule:
    """A schedule from whatever `to_step_size` takes."""
    step_size = to_step_size(value)
    return step_size if isinstance(step_size, Schedule) else Constant(step_size)


def at(step_size: Schedule | jax.Array, t: jax.Array) -> jax.Array:
    """The step size of step t."""
    return step_size(t) if isinstance(step_size, Schedule) else step_size
