"""Step sizes as the recursions need them: mean and mean square over any interval of steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_positive, as_vector
from ..errors import InputError

STEADY = 0.05  # largest relative change of the step size inside one interval


class StepSizes(NamedTuple):
    """A constant, or the running sums of a table of step sizes and the longest steady interval from each step."""

    constant: jax.Array | None
    sums: jax.Array | None = None
    squares: jax.Array | None = None
    steady: jax.Array | None = None
    peak: jax.Array | None = None

    @classmethod
    def of(cls, step_size: ArrayLike | Callable[[int], float], steps: int) -> "StepSizes":
        """From a number, an array of `steps` numbers, or a function of the step."""
        if callable(step_size):
            step_size = [float(step_size(step)) for step in range(steps)]
        if np.ndim(step_size) == 0:
            return cls(jnp.asarray(as_positive(float(np.asarray(step_size)), "step_size"), jnp.float64))
        table = as_vector(step_size, "step_size")
        if len(table) < steps:
            raise InputError(f"step_size has {len(table)} values for {steps} steps", do="give one value for each step")
        table = table[:steps]
        if table.min() < 0 or table.max() == 0:
            raise InputError("step_size must hold numbers >= 0, not all 0")
        sums, squares = (np.concatenate([[0.0], np.cumsum(table**k)]) for k in (1, 2))
        return cls(None, jnp.asarray(sums), jnp.asarray(squares), jnp.asarray(_steady(table)), jnp.asarray(table.max()))

    def over(self, time: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and mean square of the step size over the d steps from `time`."""
        if self.constant is not None:
            return self.constant, self.constant**2
        assert self.sums is not None
        assert self.squares is not None
        first, second = ((s[time + d] - s[time]) / d for s in (self.sums, self.squares))
        return first, second

    def largest(self) -> jax.Array:
        """The largest step size of the run."""
        if self.constant is not None:
            return self.constant
        assert self.peak is not None
        return self.peak

    def limit(self, time: jax.Array) -> jax.Array:
        """Longest interval from `time` over which the step size is steady."""
        if self.steady is None:
            return jnp.asarray(2**30, jnp.int64)
        return self.steady[jnp.minimum(time, len(self.steady) - 1)]


def _steady(table: np.ndarray) -> np.ndarray:
    """(steps,) for how many steps the table stays within STEADY of its value (a hundredth of its peak counts as 0)."""
    change = np.abs(np.diff(table)) / np.maximum(table[:-1], 0.01 * table.max() / STEADY)
    travelled = np.concatenate([[0.0], np.cumsum(change)])
    reach = np.searchsorted(travelled, travelled + STEADY, side="right") - np.arange(len(table))
    return np.maximum(reach, 1).astype(np.int64)
