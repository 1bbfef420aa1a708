"""Per-sample gradient clipping around any gradient estimator."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ..checks import as_positive
from ..models.base import Model, Params, is_known, to_real
from ..problems.base import Objective
from ..problems.losses import Loss
from .gradients import Estimator


class Clipped(Estimator):
    """Each sample's gradient g becomes min(1, threshold / |g|) g before the average; the penalty's is not clipped.

    The norm is over all parameters together. For the squared loss of a linear model this is the Huber loss whose bend
    lies at threshold / |x_i| for row i.

    Args:
      gradient: the estimator whose samples are clipped (`Minibatch`, `Epochs`, ...; put `Momentum` outside).
      threshold: largest norm of one sample's gradient, > 0. Swept as `dynamics.gradient.threshold`.

    Source: Abadi et al., Deep learning with differential privacy, CCS 2016 (there with noise added).
    """

    gradient: Estimator
    threshold: jax.Array

    def __init__(self, gradient: Estimator, threshold: ArrayLike):
        self.gradient, self.threshold = gradient, to_real(threshold)
        if is_known(self.threshold):
            as_positive(float(self.threshold), "threshold")

    def init(self, objective: Objective, params: Params) -> Any:
        return self.gradient.init(self._clipped(objective), params)

    def draw(self, key: jax.Array, objective: Objective) -> Any:
        return self.gradient.draw(key, objective)

    def __call__(self, objective, params, memory, draw, t):
        return self.gradient(self._clipped(objective), params, memory, draw, t)

    def check(self, objective: Objective) -> None:
        self.gradient.check(objective)

    def _clipped(self, objective: Objective) -> "ClippedObjective":
        return ClippedObjective(objective, self.threshold)


class ClippedObjective(Objective):
    """An objective whose gradient averages clipped gradients; everything else is that of the objective inside."""

    inner: Objective
    threshold: jax.Array

    def __init__(self, inner: Objective, threshold: jax.Array):
        self.inner, self.threshold = inner, threshold

    @property
    def model(self) -> Model:  # type: ignore[override]
        return self.inner.model

    @property
    def loss(self) -> Loss:  # type: ignore[override]
        return self.inner.loss

    @property
    def ridge(self) -> jax.Array:  # type: ignore[override]
        return self.inner.ridge

    @property
    def n(self) -> int | None:
        return self.inner.n

    def outputs(self, params: Params, index: Any = None) -> tuple[jax.Array, jax.Array]:
        return self.inner.outputs(params, index)

    def choose(self, key: jax.Array, batch: int) -> Any:
        return self.inner.choose(key, batch)

    def gradient(self, params: Params, index: Any = None) -> Params:
        if index is None:
            index = jnp.arange(self.inner.n or 0)
        mobility = self.inner.model.mobility

        def of_one(sample):
            alone = jax.tree.map(lambda leaf: leaf[None], sample)
            g = jax.grad(lambda p: self.inner.losses(p, alone)[0])(params)
            g = jax.tree.map(lambda leaf: mobility * leaf, g)
            norm = jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(g)), jnp.zeros(())))
            # threshold / max(norm, threshold) is 1 below the threshold, at a norm of 0 too.
            return jax.tree.map(lambda leaf: leaf * self.threshold / jnp.maximum(norm, self.threshold), g)

        average = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(of_one)(index))
        penalty = jax.grad(self.penalty)(params)
        return jax.tree.map(lambda g, p: g + mobility * p, average, penalty)
