"""A teacher: labels from a few directions of inputs with independent entries."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..models.activations import Activation, to_activation
from .base import Data, Law

Link = Callable[[jax.Array], jax.Array]
ENTRIES: dict[str, Callable[[jax.Array, tuple[int, ...]], jax.Array]] = {
    "gaussian": lambda key, shape: jax.random.normal(key, shape),
    "rademacher": lambda key, shape: jax.random.rademacher(key, shape, jnp.result_type(float)),
    "uniform": lambda key, shape: jax.random.uniform(key, shape, minval=-(3**0.5), maxval=3**0.5),
}


class TeacherLaw(Law):
    """x_j = sqrt(spectrum_j / d) e_j, e_j independent of variance 1; y a function of theta*^T x and of noise."""

    teacher: jax.Array
    spectrum: jax.Array
    label_noise: jax.Array
    link: Link = eqx.field(static=True)
    sign: bool = eqx.field(static=True)
    entries: str = eqx.field(static=True)

    def label(self, r_star: jax.Array, z: jax.Array) -> jax.Array:
        """The label of one sample: link(r*) + sqrt(label_noise) z, or its sign; r* (K,), z standard normal."""
        y = self.link(r_star) + jnp.sqrt(self.label_noise) * z
        return jnp.where(y > 0, 1.0, -1.0).astype(y.dtype) if self.sign else y

    def sample(self, key: jax.Array, n: int) -> Data:
        keys = jax.random.split(key)
        d = self.spectrum.shape[0]
        X = ENTRIES[self.entries](keys[0], (n, d)) * jnp.sqrt(self.spectrum / d)
        z = jax.random.normal(keys[1], (n,))
        return Data(X, jax.vmap(self.label)(X @ self.teacher, z))


class SummedLink:
    """An activation applied to each pre-activation and summed; equal for equal activations, so nothing recompiles."""

    def __init__(self, activation: Activation):
        self.activation = activation

    def __call__(self, r_star: jax.Array) -> jax.Array:
        return jnp.sum(self.activation(r_star))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, SummedLink) and other.activation == self.activation

    def __hash__(self) -> int:
        return hash(self.activation)


def to_link(link: str | Link) -> Link:
    """A function of r* as it is; the name of an activation as that of each entry, summed."""
    return SummedLink(to_activation(link)) if isinstance(link, str) else link


def directions_with_gram(free: np.ndarray, spectrum: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """(d, K) directions in the span of `free` whose pre-activations have exactly the covariance `gram`."""
    check_covariance(gram, "teacher_gram", definite=True)
    root = np.linalg.cholesky(free.T @ (spectrum[:, None] * free) / len(free))
    return np.linalg.solve(root, free.T).T @ np.linalg.cholesky(gram).T


def check_covariance(matrix: np.ndarray, name: str, *, definite: bool = False) -> None:
    """InputError unless a matrix is symmetric and positive semidefinite (definite)."""
    if matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T):
        raise InputError(f"{name} has shape {matrix.shape} and must be a symmetric square matrix")
    smallest = np.linalg.eigvalsh(matrix)[0]
    kind = "definite" if definite else "semidefinite"
    if smallest <= 1e-10 * np.trace(matrix) if definite else smallest < -1e-9 * np.trace(matrix):
        do = "" if definite else "lower the overlap"
        raise InputError(f"{name} is not positive {kind} (smallest eigenvalue {smallest:.3g})", do=do)
