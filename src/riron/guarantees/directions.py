"""Psi = sup |(1/n) sum_i g_i relu(v . x_i)| over unit directions: a search from many starts, and a proved upper bound.

With a decayed hidden bias x holds a constant column and |v| = 1; with a free bias the last entry of v is not counted in
the norm; without one there is no such column. All are one problem, Q(v) = |phi(v)| / |P v|, P dropping a free bias.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Bias = Literal["decayed", "free", "none"]

POLISHED = 20  # best ends of the ascent that are refined
NEAR = 0.01  # ends within this share of the best count as the same maximum


class Directions(NamedTuple):
    """Ends of the ascent, best first."""

    V: np.ndarray
    """(K, d + 1) or (K, d) directions with |P v| = 1."""
    values: np.ndarray
    """(K,) |phi(V)|, a lower limit of Psi."""
    signs: np.ndarray
    """(K,) of phi(V)."""
    start_share: float
    """Share of the random starts that ended within 1 % of the best."""


def with_bias(X: np.ndarray, bias: Bias) -> np.ndarray:
    """X with the constant column of the hidden bias, where there is one."""
    return X if bias == "none" else np.column_stack([X, np.ones(len(X))])


def search(
    X: np.ndarray, g: np.ndarray, bias: Bias, own: np.ndarray, key: jax.Array, *, starts: int = 600, steps: int = 300
) -> Directions:
    """Ascent of |phi| from the net's own neurons, random directions and data points; the best are polished in float64.

    Args:
      X: (n, d) features. g: (n,) dual vector; with sum 0 where the hidden bias is free.
      bias: of the hidden layer.
      own: (m, d + 1) or (m, d) directions of the net's own neurons.
      key: of the random starts. starts: number of random ones (two thirds) and data points. steps: of the ascent.
    """
    counted = X.shape[1] + (bias == "decayed")
    centre = X.mean(axis=0) if bias == "free" else np.zeros(X.shape[1])
    scale = float(np.sqrt(np.mean((X - centre) ** 2) * X.shape[1])) if bias == "free" else 1.0
    A = with_bias(X - centre, bias)
    if bias == "free":
        A[:, -1] = scale  # the bias in units of the features, so that one step suits both
    random, start = _starts(A, g, _change(own, centre, scale, bias), key, starts)
    V, _, signs = _ascend(A, g, start, counted=counted, steps=steps, dtype=jnp.float32)
    with jax.enable_x64(True):
        values = _values(A, g, V, counted)
        order = np.argsort(-values)
        best = order[: 4 * POLISHED]
        chosen = best[_distinct(V[best])][:POLISHED]
        polished, best_values, best_signs = _ascend(
            A, g, V[chosen], counted=counted, steps=4 * steps, dtype=jnp.float64, signs=signs[chosen]
        )
    share = float(np.mean(values[random] > (1 - NEAR) * max(best_values.max(), values.max())))
    order = np.argsort(-best_values)
    return Directions(_back(polished[order], centre, scale, bias), best_values[order], best_signs[order], share)


def _starts(A, g, own, key, starts):
    """Indices of the random starts, and all starts, one a row."""
    n, k = A.shape
    many = 2 * starts // 3
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32))
    rows = A[rng.choice(n, starts - many, replace=starts - many > n)]
    random = rng.normal(size=(many, k))
    start = np.concatenate([random, rows * rng.choice([-1.0, 1.0], size=(len(rows), 1)), own])
    return np.arange(many), start


def _change(V: np.ndarray, centre: np.ndarray, scale: float, bias: Bias) -> np.ndarray:
    """Directions in the coordinates of the search: a free bias b becomes (b + v . centre) / scale."""
    if bias != "free":
        return V
    return np.column_stack([V[:, :-1], (V[:, -1] + V[:, :-1] @ centre) / scale])


def _back(V: np.ndarray, centre: np.ndarray, scale: float, bias: Bias) -> np.ndarray:
    if bias != "free":
        return V
    return np.column_stack([V[:, :-1], V[:, -1] * scale - V[:, :-1] @ centre])


def _distinct(V: np.ndarray, cosine: float = 0.98) -> list[int]:
    """Indices of rows, in order, that are not within this cosine of an earlier one."""
    unit = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-300)
    kept: list[int] = []
    for i, v in enumerate(unit):
        if not kept or np.max(unit[kept] @ v) < cosine:
            kept.append(i)
    return kept


def _values(A: np.ndarray, g: np.ndarray, V: np.ndarray, counted: int) -> np.ndarray:
    """|phi(v)| / |P v| of each row."""
    norm = np.linalg.norm(V[:, :counted], axis=1)
    return np.abs(np.maximum(V @ A.T, 0) @ g) / len(g) / np.maximum(norm, 1e-300)


def _ascend(A, g, start, *, counted, steps, dtype, signs=None):
    """Ends (M, k), values |phi| and signs of the ascent from each row of `start`."""
    cast = lambda a: jnp.asarray(np.asarray(a, np.float64), dtype)
    if signs is None:
        signs = np.sign(np.maximum(start @ A.T, 0) @ g)
        signs = np.where(signs == 0, 1.0, signs)
    V, values = _ascent(cast(A), cast(g) / len(g), cast(start), cast(signs), steps, counted=counted)
    return np.asarray(V, np.float64), np.asarray(values, np.float64), np.asarray(signs, np.float64)


@partial(jax.jit, static_argnames=("counted",))
def _ascent(A, g, V, signs, steps, *, counted):
    """Gradient ascent on the sphere with a step of its own for each start, which grows when it helps."""
    P = (jnp.arange(A.shape[1]) < counted).astype(A.dtype)

    def unit(V):
        return V / jnp.maximum(jnp.linalg.norm(V * P, axis=1, keepdims=True), 1e-20)

    def value_and_slope(V, smooth):
        U = V @ A.T
        rms = jnp.sqrt(jnp.mean(U**2, axis=1, keepdims=True))
        active = jax.nn.sigmoid(U / (smooth * rms + 1e-30))
        value = signs * (jax.nn.relu(U) @ g)
        slope = signs[:, None] * ((active * g) @ A)
        return value, slope - jnp.sum(slope * V * P, axis=1, keepdims=True) * V * P

    def step(k, state):
        V, value, slope, size = state
        # Concave kinks stop a plain ascent: the slope of a relu that is smoothed, less and less, slides along them.
        smooth = 0.1 * (1e-3 ** (k / steps)).astype(A.dtype)
        length = jnp.maximum(jnp.linalg.norm(slope, axis=1, keepdims=True), 1e-20)
        new = unit(V + size[:, None] * slope / length)
        new_value, new_slope = value_and_slope(new, smooth)
        better = new_value > value
        pick = lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        size = jnp.clip(jnp.where(better, 1.5 * size, 0.5 * size), 1e-7, 1.0)
        return pick(new, V), pick(new_value, value), pick(new_slope, slope), size

    V = unit(V)
    value, slope = value_and_slope(V, jnp.asarray(0.1, A.dtype))
    state = (V, value, slope, jnp.full(len(V), 0.3, A.dtype))
    V, value, *_ = jax.lax.fori_loop(0, steps, step, state)
    return V, jnp.abs(value)


def upper_bound(X: np.ndarray, g: np.ndarray, bias: Bias) -> float:
    """A proved upper bound of Psi, exact up to a mesh in one or two dimensions.

    relu(u) = (u + |u|) / 2, Cauchy-Schwarz on each half of |u|, and the largest eigenvalue. A free bias beyond the
    largest |x . t| changes nothing where g has sum 0, so that |v|^2 <= 2 in coordinates in which the bias is at most 1.
    """
    n, d = X.shape
    if d + (bias != "none") <= 2:
        return _on_a_circle(X, g, bias)
    centre = X.mean(axis=0) if bias == "free" else np.zeros(d)
    A, longest = with_bias(X - centre, bias), 1.0
    if bias == "free":
        A[:, -1], longest = np.linalg.norm(A[:, :-1], axis=1).max(), 2**0.5
    linear = np.linalg.norm(A.T @ g) / (2 * n)
    halves = [np.maximum(g, 0), np.maximum(-g, 0)]
    root = [np.sqrt(h.mean() * max(np.linalg.eigvalsh((A * h[:, None]).T @ A / n)[-1], 0.0)) for h in halves]
    return float(longest * (linear + max(root) / 2))


def _on_a_circle(X: np.ndarray, g: np.ndarray, bias: Bias, mesh: int = 20_000) -> float:
    """The largest of a grid of angles, plus what phi can rise between two of them (its Lipschitz constant)."""
    n = len(g)
    if X.shape[1] == 1 and bias != "decayed":
        # Directions are +-1: without bias two values; with a free one the best bias lies at a data point.
        kinks = np.zeros(1) if bias == "none" else X[:, 0]
        sums = [np.abs(np.maximum(s * (X[:, 0] - kinks[:, None]), 0) @ g).max() / n for s in (-1.0, 1.0)]
        return float(max(sums))
    A = with_bias(X, bias)
    angles = 2 * np.pi * np.arange(mesh) / mesh
    V = np.column_stack([np.cos(angles), np.sin(angles)])
    values = np.concatenate([np.abs(np.maximum(part @ A.T, 0) @ g) / n for part in np.array_split(V, 20)])
    return float(values.max() + np.mean(np.abs(g) * np.linalg.norm(A, axis=1)) * np.pi / mesh)
