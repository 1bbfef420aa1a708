"""Problem = law x model x loss x ridge, and the objective (one finite sum, or a stream) that dynamics see."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import InputError
from ..models.base import Model, Params, to_real
from .losses import Loss, to_loss
from .sampling import uniform_index


class Data(NamedTuple):
    """A sample: X (n, d) and y (n,) or (n, K)."""

    X: jax.Array
    y: jax.Array


class Law(eqx.Module):
    """The law of the data."""

    @abc.abstractmethod
    def sample(self, key: jax.Array, n: int) -> Data:
        """n independent samples."""


class Objective(eqx.Module):
    """All that dynamics see: losses of chosen samples, and a penalty.

    An index is whatever `choose` returns: row numbers for a table, the fresh samples themselves for a stream.
    """

    model: eqx.AbstractVar[Model]
    loss: eqx.AbstractVar[Loss]
    ridge: eqx.AbstractVar[jax.Array]

    @property
    @abc.abstractmethod
    def n(self) -> int | None:
        """Number of samples in the sum; None for a stream."""

    @abc.abstractmethod
    def outputs(self, params: Params, index: Any = None) -> tuple[jax.Array, jax.Array]:
        """The model's outputs at the chosen samples (all for None), and their targets."""

    @abc.abstractmethod
    def choose(self, key: jax.Array, batch: int) -> Any:
        """The index of `batch` samples, independent and uniform."""

    def losses(self, params: Params, index: Any = None) -> jax.Array:
        """The loss of each chosen sample, penalty left out."""
        return jax.vmap(self.loss)(*self.outputs(params, index))

    def penalty(self, params: Params) -> jax.Array:
        """ridge x the model's penalty (|params|^2 / 2)."""
        return self.ridge * self.model.penalty(params)

    def value(self, params: Params, index: Any = None) -> jax.Array:
        """Average loss of the chosen samples, plus the penalty."""
        return jnp.mean(self.losses(params, index)) + self.penalty(params)

    def gradient(self, params: Params, index: Any = None) -> Params:
        """Gradient of `value`; for particles, of the first variation (the gradient times their number)."""
        gradient = jax.grad(self.value)(params, index)
        if self.model.mobility == 1:
            return gradient
        return jax.tree.map(lambda g: self.model.mobility * g, gradient)


class FiniteSum(Objective):
    """The average loss over the rows of a table."""

    X: jax.Array
    y: jax.Array
    model: Model
    loss: Loss = eqx.field(static=True)
    ridge: jax.Array

    @property
    def n(self) -> int:
        return self.X.shape[0]

    def outputs(self, params: Params, index: Any = None) -> tuple[jax.Array, jax.Array]:
        if index is None:
            return self.model(params, self.X), self.y
        rows = lambda table: table.at[index].get(mode="promise_in_bounds")
        return self.model(params, rows(self.X)), rows(self.y)

    def choose(self, key: jax.Array, batch: int) -> jax.Array:
        return uniform_index(key, self.n, (batch,))


class Stream(Objective):
    """The expected loss under a law: every chosen sample is fresh (one-pass learning)."""

    law: Law
    model: Model
    loss: Loss = eqx.field(static=True)
    ridge: jax.Array

    @property
    def n(self) -> None:
        return None

    def outputs(self, params: Params, index: Any = None) -> tuple[jax.Array, jax.Array]:
        return self.model(params, index.X), index.y

    def choose(self, key: jax.Array, batch: int) -> Data:
        return self.law.sample(key, batch)


class Problem(eqx.Module):
    """What is to be learned, by what, and how it is judged. Subclasses give the four parts and add test measures."""

    law: eqx.AbstractVar[Law]
    model: eqx.AbstractVar[Model]
    loss: eqx.AbstractVar[Loss]
    ridge: eqx.AbstractVar[jax.Array]

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the axes of measures that are not plain numbers."""
        return {}

    def sample(self, key: jax.Array, n: int) -> Data:
        """n samples of the law."""
        return self.law.sample(key, n)

    def objective(self, data: Any) -> Objective:
        """The sum over given data, a pair (X, y)."""
        X, y = data
        self.check(X, y)
        return FiniteSum(X=X, y=y, model=self.model, loss=self.loss, ridge=self.ridge)

    def check(self, X: jax.Array, y: jax.Array) -> None:
        """InputError unless the model takes X and gives one output for each target; looks at shapes only."""
        try:
            outputs = jax.eval_shape(lambda X: self.model(self.model.init(jax.random.key(0)), X), X)
        except TypeError:
            raise InputError(
                f"the model does not take X of shape {X.shape}", do="make the features fit the model"
            ) from None
        if outputs.shape != y.shape:
            raise InputError(f"the model's outputs have shape {outputs.shape} and the targets y have {y.shape}")

    def initial(self, key: jax.Array) -> Params:
        """Parameters at the start."""
        return self.model.init(key)

    def measure(self, objective: Objective, params: Params) -> dict[str, jax.Array]:
        """What is recorded, by the names of the glossary; losses without the penalty."""
        return {"train_loss": jnp.mean(objective.losses(params)), **self.measure_fresh(params)}

    def measure_fresh(self, params: Params) -> dict[str, jax.Array]:
        """What is recorded of the parameters alone, whatever they were trained on: test losses, overlaps."""
        return {}


class Composed(Problem):
    """Any law, model, loss and ridge put together; it measures train_loss.

    Args:
      law: the law of the data.
      model: what learns.
      loss: a name or a function loss(f, y) of one sample.
      ridge: penalty ridge x the model's penalty in the training objective.
    """

    law: Law
    model: Model
    loss: Loss = eqx.field(static=True, converter=to_loss, default="squared")
    ridge: jax.Array = eqx.field(converter=to_real, default=0.0)


class Around(Problem):
    """A problem that owns another and has its law, model, loss, ridge and start.

    A subclass repeats `__init__`: type checkers give every dataclass one of its own, made from the fields.
    """

    problem: Problem

    def __init__(self, problem: Problem):
        self.problem = problem

    @property
    def law(self) -> Law:
        return self.problem.law

    @property
    def model(self) -> Model:
        return self.problem.model

    @property
    def loss(self) -> Loss:
        return self.problem.loss

    @property
    def ridge(self) -> jax.Array:
        return self.problem.ridge

    def initial(self, key: jax.Array) -> Params:
        return self.problem.initial(key)


class OnePass(Around):
    """A problem in which every sample is used once: its objective is a stream of fresh samples.

    Pass it to `simulate` without n and data. It measures what the problem measures on fresh data.

    Args:
      problem: a problem whose law can be sampled.
    """

    def __init__(self, problem: Problem):
        super().__init__(problem)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        return self.problem.dims

    @property
    def data(self) -> tuple:
        """No table: the objective needs none."""
        return ()

    def objective(self, data: Any = ()) -> Objective:
        return Stream(law=self.law, model=self.model, loss=self.loss, ridge=self.ridge)

    def measure(self, objective: Objective, params: Params) -> dict[str, jax.Array]:
        return self.problem.measure_fresh(params)
