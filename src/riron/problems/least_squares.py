"""Least squares with Gaussian features of any covariance: y = x . signal + noise, population risk exact."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..checks import as_positive, as_vector
from ..errors import InputError
from ..models.base import is_known, to_real
from ..models.linear import Linear
from . import losses
from .base import Data, Law, Problem


class GaussianLinear(Law):
    """x ~ N(0, diag(spectrum)), y = x . signal + N(0, label_noise)."""

    spectrum: jax.Array
    signal: jax.Array
    label_noise: jax.Array

    def sample(self, key: jax.Array, n: int) -> Data:
        keys = jax.random.split(key)
        X = jax.random.normal(keys[0], (n, self.spectrum.shape[0])) * jnp.sqrt(self.spectrum)
        noise = jnp.sqrt(self.label_noise) * jax.random.normal(keys[1], (n,))
        return Data(X, X @ self.signal + noise)


class LeastSquares(Problem):
    """Linear model and squared loss on x ~ N(0, diag(spectrum)), y = x . signal + noise; the start is 0.

    It measures train_loss, test_loss (expected loss of a fresh sample, label noise included) and excess_risk
    (test_loss less what the noise alone costs, label_noise / 2).

    Args:
      spectrum: (d,) eigenvalues of the feature covariance, >= 0, units of feature^2.
      signal: (d,) target coefficients in its eigenbasis, label / feature.
      label_noise: variance of the label noise, label^2.
      ridge: penalty ridge |w|^2 / 2 in the training objective, units of feature^2.
    """

    spectrum: jax.Array
    signal: jax.Array
    label_noise: jax.Array
    ridge: jax.Array
    loss: ClassVar[losses.Loss] = staticmethod(losses.squared)

    def __init__(self, spectrum: ArrayLike, signal: ArrayLike, label_noise: ArrayLike = 0.0, *, ridge: ArrayLike = 0.0):
        self.spectrum, self.signal = to_real(spectrum), to_real(signal)
        self.label_noise, self.ridge = to_real(label_noise), to_real(ridge)
        if self.spectrum.ndim != 1 or self.spectrum.shape != self.signal.shape:
            raise InputError(
                f"spectrum has shape {self.spectrum.shape} and signal {self.signal.shape}", do="give one signal each"
            )
        if not all(map(is_known, (self.spectrum, self.signal, self.label_noise, self.ridge))):
            return
        spectrum = as_vector(self.spectrum, "spectrum")
        as_vector(self.signal, "signal")
        if spectrum.min() < 0:
            raise InputError(f"spectrum has a negative eigenvalue {spectrum.min():g} at position {np.argmin(spectrum)}")
        as_positive(float(self.label_noise), "label_noise", zero=True)
        as_positive(float(self.ridge), "ridge", zero=True)

    @property
    def law(self) -> GaussianLinear:
        return GaussianLinear(self.spectrum, self.signal, self.label_noise)

    @property
    def model(self) -> Linear:
        return Linear(self.spectrum.shape[0])

    def excess_risk(self, params: jax.Array) -> jax.Array:
        """E (x . (w - signal))^2 / 2."""
        return jnp.sum(self.spectrum * (params - self.signal) ** 2) / 2

    def measure_fresh(self, params: jax.Array) -> dict[str, jax.Array]:
        excess = self.excess_risk(params)
        return {"test_loss": excess + self.label_noise / 2, "excess_risk": excess}
