"""At which steps an estimator with a memory computes the full gradient anew: the same steps for all seeds.

The step t is shared by all seeds, and so is whatever is made of it alone. A coin of its own for each seed would make
every step of every seed compute the full gradient, since a condition that differs between seeds is evaluated both ways.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError


class Refresh(eqx.Module):
    """A rule for the steps; step 0 always refreshes."""

    @abc.abstractmethod
    def __call__(self, t: jax.Array) -> jax.Array:
        """Whether step t refreshes."""

    def table(self, steps: int) -> np.ndarray:
        """(steps,) whether each of the steps 0 .. steps - 1 refreshes, as the exact laws need it."""
        return np.asarray(jax.vmap(self)(jnp.arange(steps)))


class Every(Refresh):
    """Every `period` steps: 0, period, 2 period, ..."""

    period: int = eqx.field(static=True)

    def __check_init__(self):
        whole_period(self.period)

    def __call__(self, t: jax.Array) -> jax.Array:
        return t % self.period == 0


class Coin(Refresh):
    """Each step with probability 1 / period (loopless); the coin is one for all seeds of a run.

    Args:
      period: mean number of steps between refreshes, a whole number >= 1.
      seed: of the coin; other seeds are other sequences of refreshes.

    Source: Kovalev, Horvath & Richtarik, ALT 2020 (loopless SVRG); Li, Bao, Zhang & Richtarik, ICML 2021 (PAGE, the
    loopless form of SARAH).
    """

    period: int = eqx.field(static=True)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        whole_period(self.period)

    def __call__(self, t: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(self.seed), t)
        # Raw bits: random reals would differ between single and double precision.
        return (t == 0) | (jax.random.bits(key, (), jnp.uint32) < jnp.uint32(2**32 / self.period - 1))


def whole_period(period: object) -> None:
    """InputError unless a period is a whole number >= 1."""
    if isinstance(period, bool) or not isinstance(period, int | np.integer) or period < 1:
        raise InputError(f"period={period!r} must be a whole number >= 1")


def to_refresh(value: int | Refresh) -> Refresh:
    """A whole number as a period, a rule as it is."""
    return value if isinstance(value, Refresh) else Every(value)
