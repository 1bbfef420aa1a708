"""Gradient estimators: which samples a step looks at. Memory lies in the state, all that is random in the draw."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import InputError
from ..models.base import Params
from ..problems.base import Objective
from ..problems.log_density import Potential
from ..problems.sampling import scaled_words
from .base import count
from .linear_models import batch_gradient


class Estimator(eqx.Module):
    """An estimate of the objective's gradient."""

    def init(self, objective: Objective, params: Params) -> Any:
        """The memory at the start."""
        return ()

    @abc.abstractmethod
    def draw(self, key: jax.Array, objective: Objective) -> Any:
        """Everything random in one estimate."""

    @abc.abstractmethod
    def __call__(
        self, objective: Objective, params: Params, memory: Any, draw: Any, t: jax.Array
    ) -> tuple[Params, Any, jax.Array]:
        """The estimate, the new memory, and the number of per-sample gradients spent."""

    def check(self, objective: Objective) -> None:
        """InputError if the objective lacks what is needed."""
        return None


class Full(Estimator):
    """The gradient over all samples."""

    def draw(self, key: jax.Array, objective: Objective) -> tuple:
        return ()

    def __call__(self, objective, params, memory, draw, t):
        return objective.gradient(params), memory, count(objective.n or 0)

    def check(self, objective: Objective) -> None:
        need_rows(objective, "the full gradient")


class Minibatch(Estimator):
    """The gradient over `batch` independent samples: rows drawn with replacement, or fresh samples of a stream."""

    batch: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise InputError(f"batch={self.batch!r} must be a whole number >= 1")

    def draw(self, key: jax.Array, objective: Objective) -> Any:
        return objective.choose(key, self.batch)

    def choose(self, objective: Objective, memory: Any, draw: Any, t: jax.Array) -> tuple[Any, Any]:
        """The index of this step's samples, and the new memory."""
        return draw, memory

    def __call__(self, objective, params, memory, draw, t):
        index, memory = self.choose(objective, memory, draw, t)
        return batch_gradient(objective, params, index), memory, count(self.batch)

    def check(self, objective: Objective) -> None:
        need_sum(objective, "a minibatch")
        if objective.n is not None and self.batch > objective.n:
            raise InputError(f"batch={self.batch} is larger than the {objective.n} samples there are", do="lower it")


class Shuffled(Minibatch):
    """Rows in the order of a permutation that is kept and shuffled in place, `batch` places at a step.

    Places start .. start + batch - 1 are each swapped with a uniform place from there on (Fisher and Yates). That
    makes a uniform choice without repetition whatever the order was before, so nothing is ever sorted or renewed.
    """

    def init(self, objective: Objective, params: Params) -> jax.Array:
        return jnp.arange(objective.n or 0, dtype=jnp.int32)

    def draw(self, key: jax.Array, objective: Objective) -> jax.Array:
        return jax.random.bits(key, (self.batch,), jnp.uint32)

    @abc.abstractmethod
    def start(self, objective: Objective, t: jax.Array) -> jax.Array:
        """The first place that step t shuffles."""

    def choose(self, objective, memory, draw, t):
        start = self.start(objective, t)

        def swap(k, order):
            here = start + k
            places = jnp.stack([here, here + scaled_words(draw[k], objective.n - here)])
            return order.at[places].set(order[places[::-1]], mode="promise_in_bounds")

        order = jax.lax.fori_loop(0, self.batch, swap, memory)
        return jax.lax.dynamic_slice(order, (start,), (self.batch,)), order

    def check(self, objective: Objective) -> None:
        need_sum(objective, "a minibatch")
        need_rows(objective, "sampling by epochs or without replacement")
        super().check(objective)


class WithoutReplacement(Shuffled):
    """The gradient over `batch` different rows, chosen anew at each step."""

    def start(self, objective: Objective, t: jax.Array) -> jax.Array:
        return jnp.zeros((), jnp.int32)


class Epochs(Shuffled):
    """Every row once an epoch in a fresh random order; n // batch steps an epoch, rows left over are dropped."""

    def start(self, objective: Objective, t: jax.Array) -> jax.Array:
        return (t % ((objective.n or 0) // self.batch)) * self.batch


SAMPLINGS = {"with-replacement": Minibatch, "without-replacement": WithoutReplacement, "epochs": Epochs}


def need_rows(objective: Objective, what: str) -> None:
    """InputError for a stream, which has no rows."""
    if objective.n is None:
        raise InputError(
            f"{what} needs a table of rows and this objective is a stream of fresh samples", do="pass n or data"
        )


def need_sum(objective: Objective, what: str) -> None:
    """InputError for a log-density, of which no part can be drawn."""
    if isinstance(objective, Potential):
        raise InputError(
            f"{what} needs a finite sum and a log-density is a single term",
            do="pass the data and a loss as a problem (`from_arrays`), or use the full gradient (`ula`, `mala`)",
        )
