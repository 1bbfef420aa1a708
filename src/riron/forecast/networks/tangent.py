"""Tangent features: what a network is to SGD as long as its parameters stay near their start, and how long that holds.

Near its start theta_0 a network is linear in its parameters, f(x) = f_0(x) + J(x) (theta - theta_0), so SGD on it is
SGD on least squares with the rows of the Jacobian as features (Jacot, Gabriel & Hongler, NeurIPS 2018; Lee et al.,
NeurIPS 2019). Only their inner products matter: of P > n parameters the Gram matrix leaves n features.

K outputs share one feature matrix here, that of the kernel averaged over the outputs, (1/K) sum_k J_k J_k^T. With a
linear last layer drawn at random the kernel between two outputs has mean 0 and the same expectation within each, so the
shared kernel is right in expectation; what it leaves out at finite width is stated as `between_outputs`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from ...checks import as_array, as_positive, as_targets
from ...errors import InputError
from ...lab.memory import amount, budget
from .jax_networks import Network, as_network, checked_outputs

NULL = 1e-13  # an eigenvalue below this share of the largest, times n, is rounding
SAMPLE = 64  # rows on which kernels are compared
SAFETY, GROWTH = 2.0, 1.2  # stated error: SAFETY x (gap of the probe) x (steps forecast / steps probed)^GROWTH
FEWEST = 50  # steps of a probe
LAZY = 0.1  # stated error of the forecast above which a network does not train lazily
POINTS = 12  # of a probe, at which real and linearised network are compared


@dataclass(frozen=True, eq=False)
class Tangent:
    """A network linearised at its start.

    Attributes:
      F, F_test: (n, r) and (m, r) float64 features, r <= n and r <= K P; inner products are those of the kernel
        averaged over outputs. F_test is None without held-out rows.
      start, start_test: (n, K) and (m, K) outputs at the start. The forecast starts at 0: forecast y - start, or train
        the network less its outputs at the start (an antisymmetric initialisation does).
      parameters: P, how many parameters are trained.
      between_outputs: relative size (Frobenius) of what the shared kernel leaves out; 0 for one output.
      network, X, X_test: what it was made from.
    """

    F: np.ndarray
    F_test: np.ndarray | None
    start: np.ndarray
    start_test: np.ndarray | None
    parameters: int
    between_outputs: float
    network: Network
    X: np.ndarray
    X_test: np.ndarray | None = None


class Drift(NamedTuple):
    """How far a network left its linearisation in a short run.

    Attributes:
      steps: of the probe.
      kernel_change: relative change (Frobenius) of the kernel on a sample of rows.
      loss_gap: largest relative difference of the training loss between the network and its linearisation, the batches
        being the same.
      tolerance: stated relative error of the forecast over the whole run.
      lazy: whether the tolerance is below 10 %.
      sentence: the same in words.
    """

    steps: int
    kernel_change: float
    loss_gap: float
    tolerance: float
    lazy: bool
    sentence: str


def tangent_features(
    apply: Callable[[Any, Any], Any] | Any,
    params: Any = None,
    X: ArrayLike | None = None,
    *,
    X_test: ArrayLike | None = None,
    outputs: str | int = "mean",
    max_bytes: float | None = None,
) -> Tangent:
    """Jacobian features of a network at its start.

    Time: (n + m) (K + 1) forward passes for each block of parameters that fits into memory, and n (n + m) K P
    multiplications. Memory: `max_bytes`, never n P unless that is less.

    Args:
      apply: apply(params, X) -> (n,) or (n, K); or an Equinox or PyTorch module, with params=None. It must treat each
        row on its own. Everything is computed in float64.
      params: any pytree of arrays, at the start; arrays that are not real numbers stay as they are.
      X: (n, ...) rows as the network takes them.
      X_test: (m, ...) held-out rows.
      outputs: "mean": one kernel for all outputs, averaged over them; a number k: that of output k.
      max_bytes: memory to use; None for half of what is free.
    Returns: Tangent.
    Raises: InputError if the network fails on X, gives outputs of a wrong shape or that are not finite, mixes rows, has
      a zero Jacobian, or if n rows do not fit into the memory.
    Source: Jacot, Gabriel & Hongler, Neural tangent kernel, NeurIPS 2018; Lee et al., Wide neural networks of any depth
      evolve as linear models, NeurIPS 2019.
    """
    network = as_network(apply, params)
    if X is None:
        raise InputError("tangent features need rows X")
    rows = [_as_rows(X, "X")] + ([] if X_test is None else [_as_rows(X_test, "X_test")])
    starts = [checked_outputs(network, part, name) for part, name in zip(rows, ("X", "X_test"), strict=False)]
    count = starts[0].shape[1]
    if outputs != "mean" and not (isinstance(outputs, int) and 0 <= outputs < count):
        raise InputError(f"outputs={outputs!r} is not one of the {count} outputs", do=f"use 'mean' or 0 to {count - 1}")
    chosen = slice(None) if outputs == "mean" else slice(outputs, outputs + 1)  # type: ignore[operator]
    limit = budget() if max_bytes is None else as_positive(max_bytes, "max_bytes")
    n, P = len(rows[0]), len(network.start)
    together = np.concatenate(rows)
    width = len(range(count)[chosen]) * P
    if width <= n and 16.0 * len(together) * count * P <= limit:
        J = np.concatenate(list(_jacobians(network, network.start, together, limit)), axis=2)[:, chosen]
        F = J.reshape(len(J), -1) / np.sqrt(J.shape[1])
        train, test = F[:n], F[n:]
    else:
        needed = 8.0 * n * (2 * n + 3 * len(together))
        if 2 * needed > limit:
            raise InputError(
                f"tangent features of {n} rows need {amount(2 * needed)} and {amount(limit)} may be used",
                do="pass fewer rows",
            )
        kernel = np.zeros((len(together), n))
        for J in _jacobians(network, network.start, together, limit - needed):
            F = J[:, chosen].reshape(len(J), -1)
            kernel += F @ F[:n].T
        train, test = _reduced(kernel / len(range(count)[chosen]), n)
    if not train.any():
        raise InputError("no parameter moves the network's outputs at its start", do="check its initialisation")
    return Tangent(
        F=train,
        F_test=None if X_test is None else test,
        start=starts[0][:, chosen],
        start_test=None if X_test is None else starts[1][:, chosen],
        parameters=P,
        between_outputs=_left_out(kernel_between_outputs(network, network.start, _sample(rows[0]), limit)[:, chosen])
        if outputs == "mean" and count > 1
        else 0.0,
        network=network,
        X=rows[0],
        X_test=None if X_test is None else rows[1],
    )


def kernel_drift(
    tangent: Tangent,
    y: ArrayLike,
    *,
    batch: int,
    step_size: float,
    horizon: int,
    steps: int | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    seed: int = 0,
) -> Drift:
    """Trains the network itself for a few steps, beside its linearisation on the same batches.

    Args:
      tangent: from `tangent_features` with outputs="mean".
      y: (n,) or (n, K) targets of the network less its outputs at the start.
      batch, step_size, momentum, nesterov: as it will be trained; rows drawn with replacement.
      horizon: steps of the run that is forecast.
      steps: of the probe; None for a tenth of the horizon, at least 50.
      seed: of the batches.
    Returns: Drift, with the stated tolerance of a forecast from these features.
    Raises: InputError for values out of range, or targets that do not fit the outputs.
    """
    network, X = tangent.network, tangent.X
    y = as_targets(y, "y", len(X))
    if y.shape != tangent.start.shape:
        raise InputError(f"y has {y.shape[1]} outputs and the network has {tangent.start.shape[1]}")
    if not 1 <= batch <= len(X):
        raise InputError(f"batch={batch} is outside [1, {len(X)}]")
    as_positive(step_size, "step_size")
    steps = min(horizon, max(FEWEST, horizon // 10)) if steps is None else steps
    if not 1 <= steps <= horizon:
        raise InputError(f"a probe of {steps} steps is not within 1 and the {horizon} steps of the run")
    rng = np.random.default_rng(seed)
    seen = _sample(X)
    before = kernel_between_outputs(network, network.start, seen, budget())
    real = _Descent(network.start, step_size, momentum, nesterov)
    linear = _Descent(np.zeros((tangent.F.shape[1], y.shape[1])), step_size, momentum, nesterov)
    compare = set(np.unique(np.geomspace(1, steps, POINTS).astype(int)))
    gap = 0.0
    for step in range(1, steps + 1):
        rows = rng.integers(len(X), size=batch)
        residual = network.outputs(real.at, X[rows]) - tangent.start[rows] - y[rows]
        real.step(network.pull(real.at, X[rows], residual / batch))
        F = tangent.F[rows]
        linear.step(F.T @ (F @ linear.at - y[rows]) / batch)
        if step in compare:
            residuals = network.outputs(real.at, X) - tangent.start - y, tangent.F @ linear.at - y
            losses = [np.sum(r**2) for r in residuals]
            gap = max(gap, abs(losses[0] / losses[1] - 1)) if np.isfinite(losses).all() else np.inf
    after = kernel_between_outputs(network, real.at, seen, budget())
    change = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    return _judged(steps, change, float(gap), horizon)


def kernel_between_outputs(network: Network, theta: np.ndarray, X: np.ndarray, max_bytes: float) -> np.ndarray:
    """(n, K, n, K) inner products of the Jacobians of all outputs at all rows."""
    kernel: np.ndarray | float = 0.0
    for J in _jacobians(network, theta, X, max_bytes):
        kernel = kernel + np.tensordot(J, J, axes=(2, 2))
    return np.asarray(kernel)


def _jacobians(network: Network, theta: np.ndarray, X: np.ndarray, max_bytes: float) -> Iterator[np.ndarray]:
    """(n, K, b) Jacobians, blocks of parameters at a time: half of the memory is for the blocks, a quarter each for
    what a chunk of rows and the products need."""
    P = len(theta)
    per_parameter = 8.0 * len(X) * network.outputs(theta, X[:1]).shape[1]
    blocks = int(np.ceil(2 * P * per_parameter / max_bytes))
    if blocks > P:
        raise InputError(
            f"tangent features of {len(X)} rows need {amount(2 * per_parameter)} for each parameter and "
            f"{amount(max_bytes)} may be used",
            do="pass fewer rows",
        )
    size = -(-P // blocks)
    for first in range(0, P, size):
        yield network.jacobian(theta, X, first, min(first + size, P), max_bytes / 4)


def _reduced(kernel: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, r) and (m, r) whose inner products with the first n rows are the kernel (n + m, n)."""
    s, Q = eigh((kernel[:n] + kernel[:n].T) / 2)
    keep = s > NULL * n * max(s[-1], 0)
    roots = np.sqrt(s[keep])[::-1]
    Q = Q[:, keep][:, ::-1]
    return Q * roots, kernel[n:] @ (Q / roots)


def _left_out(kernel: np.ndarray) -> float:
    """Relative size of the kernel (n, K, n, K) less its average over outputs, the same within each and 0 between."""
    K = kernel.shape[1]
    shared = np.einsum("ikjk->ij", kernel) / K
    left = kernel - shared[:, None, :, None] * np.eye(K)[None, :, None, :]
    return float(np.linalg.norm(left) / np.linalg.norm(kernel))


def _sample(X: np.ndarray) -> np.ndarray:
    return X[np.random.default_rng(0).permutation(len(X))[:SAMPLE]]


def _as_rows(value: ArrayLike, name: str) -> np.ndarray:
    """Rows of any shape: images keep theirs."""
    return as_array(value, name, ndim=(2, 3, 4, 5))


class _Descent:
    """SGD with PyTorch's momentum: v <- m v + g, step along v (Nesterov: g + m v)."""

    def __init__(self, at: np.ndarray, step_size: float, momentum: float, nesterov: bool):
        self.at, self.velocity = at, np.zeros_like(at)
        self.step_size, self.momentum, self.nesterov = step_size, momentum, nesterov

    def step(self, gradient: np.ndarray) -> None:
        self.velocity = self.momentum * self.velocity + gradient
        move = gradient + self.momentum * self.velocity if self.nesterov else self.velocity
        self.at = self.at - self.step_size * move


def _judged(steps: int, change: float, gap: float, horizon: int) -> Drift:
    """The stated error: the gap of the probe, extrapolated; factor and power are set by docs/tangent-features.md."""
    tolerance = SAFETY * gap * (horizon / steps) ** GROWTH
    lazy = tolerance < LAZY
    found = (
        f"In {steps} steps the kernel of the network changed by {100 * change:.2g} % and its training loss left that "
        f"of its linearisation by {100 * gap:.2g} %"
    )
    if lazy:
        return Drift(
            steps, change, gap, tolerance, lazy, f"{found}; stated for {horizon} steps: {100 * tolerance:.2g} %."
        )
    size = f"about {100 * tolerance:.0f} %" if tolerance < 1 else "more than 100 %"
    return Drift(
        steps,
        change,
        gap,
        tolerance,
        lazy,
        f"This network does not train lazily: {found[0].lower()}{found[1:]}, so a forecast of {horizon} steps can be "
        f"off by {size}; use a smaller step size, fewer steps or a wider network.",
    )
