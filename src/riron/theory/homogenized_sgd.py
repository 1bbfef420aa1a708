"""Homogenised SGD on least squares: the losses of minibatch SGD when they depend on the data only through its spectrum.

The noise of a minibatch gradient is replaced by Gaussian noise of covariance 2 f(t) H / B, with f the training loss now
and H = X^T X / n. Then the mean and the variance along every eigenvector of H obey closed recursions, and the loss
solves a Volterra equation f(t) = F(t) + int K(t-s) f(s) ds whose kernel says how fast, and whether, SGD converges.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.optimize import root_scalar

from ..checks import as_array, as_matrix, as_positive, as_vector
from ..errors import InputError


def homogenized_edge(X: ArrayLike, *, batch: float = 1) -> float:
    """Largest step size that converges in mean square under homogenised SGD.

    Solves (eta/B) sum_j h_j / (2 - eta h_j) = 1, h the eigenvalues of X^T X / n.

    Args:
      X: (n, d) features, units of feature; or the (d,) eigenvalues h themselves, units of feature^2.
      batch: samples per step, drawn with replacement (>= 1).
    Returns: step size, units of 1/feature^2.
    Raises: InputError if X is empty, not finite (how many, where) or zero, or batch < 1.
    Source: Paquette, Lee, Pedregosa & Paquette, COLT 2021 (paquette2021sgd). Checked in studies/homogenized_sgd.py.
    """
    h, batch = _eigenvalues(X), _batch(batch)
    excess = lambda eta: eta / batch * np.sum(h / (2 - eta * h)) - 1
    high = 2 / h.max()
    return _root(excess, 0.0, high * (1 - 1e-12), xtol=1e-15 * high)


def homogenized_sgd(
    X: ArrayLike,
    y: ArrayLike,
    *,
    step_size: float,
    batch: float,
    record: xr.DataArray | ArrayLike,
    spectrum: ArrayLike | None = None,
    signal: ArrayLike | None = None,
    label_noise: float = 0.0,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
) -> xr.Dataset:
    """Expected losses of minibatch SGD on least squares, started at 0, under homogenised noise.

    With mu, V the mean and variance of the parameters along the eigenvectors of H = X^T X / n, mu* least squares there:
    mu - mu* <- (1 - eta h)(mu - mu*),  V <- (1 - eta h)^2 V + (eta^2/B) 2 f h,  f the expected training loss now.

    Args:
      X: (n, d) features; or (M, n, d): M samples of one law, over which the losses are averaged.
      y: (n,) or (M, n) targets.
      step_size: eta, constant, units of 1/feature^2.
      batch: samples per step, drawn with replacement (>= 1; any real number).
      record: steps at which to report, whole numbers >= 0, on a labelled axis (a plain array gets the dim `step`).
      spectrum, signal, label_noise: the law that fresh samples come from: Gaussian features with covariance
        diag(spectrum), targets x.signal + noise of variance label_noise; gives `test_loss` without sampling.
      X_test, y_test: held-out rows in place of the law.
    Returns: Dataset on the record's axis: `train_loss`, and `test_loss` where a law or held-out rows are given
      (squared error / 2).
    Raises: InputError for shapes that differ, values that are not finite, or a record that is not whole and >= 0.
    Source: Paquette, Lee, Pedregosa & Paquette, COLT 2021 (paquette2021sgd).
    """
    X, y = as_array(X, "X", ndim=(2, 3)), as_array(y, "y", ndim=(1, 2))
    step_size, batch = as_positive(step_size, "step_size"), _batch(batch)
    if y.shape != X.shape[:-1]:
        raise InputError(
            f"y has the shape {y.shape} and the rows of X {X.shape[:-1]}", do="pass one target for each row"
        )
    if not X.any():
        raise InputError("X is zero", do="SGD has nothing to learn from it")
    record, steps = _steps(record)
    n, d = X.shape[-2:]
    samples, targets = X.reshape(-1, n, d), y.reshape(-1, n)
    left, root_h, U = np.linalg.svd(samples / np.sqrt(n), full_matrices=False)
    moves = root_h > root_h.max() * max(n, d) * np.finfo(float).eps  # SGD stays at 0 in directions of no variance
    h, along = np.where(moves, root_h, 0) ** 2, np.einsum("mnp,mn->mp", left, targets) * moves
    solution = along / np.where(moves, root_h * np.sqrt(n), 1)
    unexplained = targets - np.einsum("mnp,mp->mn", left, along)
    floor = np.mean(unexplained**2, axis=1)
    distances, variances = _moments(h, solution, floor, step_size, batch, steps)

    columns = {"train_loss": floor + np.sum((distances**2 + variances) * h, axis=-1)}
    means = solution + distances  # (steps, M, directions), as the variances
    if X_test is not None or y_test is not None:
        if X_test is None or y_test is None:
            raise InputError("X_test and y_test must be given together")
        rotated, fresh = as_matrix(X_test, "X_test") @ U.transpose(0, 2, 1), as_vector(y_test, "y_test")
        errors = np.einsum("mrp,tmp->tmr", rotated, means) - fresh
        spread = np.sum(variances * np.mean(rotated**2, axis=1), axis=-1)
        columns["test_loss"] = np.mean(errors**2, axis=-1) + spread
    elif spectrum is not None and signal is not None:
        spectrum, signal = as_vector(spectrum, "spectrum"), as_vector(signal, "signal")
        if not len(spectrum) == len(signal) == d:
            raise InputError(f"X has {d} columns, spectrum {len(spectrum)} entries and signal {len(signal)}")
        errors = np.einsum("mpd,tmp->tmd", U, means) - signal
        columns["test_loss"] = errors**2 @ spectrum + np.sum(variances * (U**2 @ spectrum), axis=-1) + label_noise
    columns = {name: 0.5 * squares.mean(axis=1) for name, squares in columns.items()}
    return xr.Dataset({name: (record.dims, values) for name, values in columns.items()}, coords=record.coords)


def convergence_rate(
    X: ArrayLike, *, step_size: float, batch: float = 1, clock: Literal["steps", "flow"] = "steps"
) -> float:
    """Rate at which the expected loss of homogenised SGD approaches its limit: f(t) - f(inf) ~ exp(-rate t).

    The smaller of two: the slowest direction's own 2 eta h_min, and the root lam of the kernel equation
    (eta^2/B) sum_j h_j^2 / (2 eta h_j - lam) = 1, where the noise feeds on itself. With finitely many directions the
    root is always the smaller; in the limit of many directions the two change places at `critical_step_size`.

    Args:
      X: (n, d) features, units of feature; or the (d,) eigenvalues of X^T X / n, units of feature^2. Zero eigenvalues
        are left out: SGD started at 0 never moves there.
      step_size: eta, units of 1/feature^2.
      batch: samples per step, drawn with replacement.
      clock: "steps" for SGD itself: -log of the largest root lam of (eta^2/B) sum h^2 / (lam - (1 - eta h)^2) = 1;
        "flow" for the continuous-time equation above, its limit for small eta h.
    Returns: rate per step; negative above the stability edge, where the loss grows.
    Raises: InputError as in `homogenized_edge`.
    Source: Paquette, Lee, Pedregosa & Paquette, COLT 2021 (paquette2021sgd); checked against the dense moment operator.
    """
    h, step_size, batch = _eigenvalues(X), as_positive(step_size, "step_size"), _batch(batch)
    push = step_size**2 / batch * h**2
    if clock == "flow":
        decay = 2 * step_size * h
        slack = _largest_root(push, decay - decay.min())
        return float(decay.min() - slack)
    kept = (1 - step_size * h) ** 2
    return float(-np.log(kept.max() + _largest_root(push, kept.max() - kept)))


def critical_step_size(spectrum: ArrayLike, *, n: float, batch: float = 1) -> float:
    """Step size at which the convergence rate changes from the slowest direction's to the noise's.

    In the limit of many samples and directions. Below it SGD converges like gradient descent, at 2 eta h_-; above it
    the noise sets a slower rate. Isotropic features: 2 B sqrt(r) / (d (1 - sqrt(r) + r)), r = d/n.

    Args:
      spectrum: (d,) eigenvalues of the feature covariance, > 0, units of feature^2.
      n: number of samples (> 0, not d).
      batch: samples per step, drawn with replacement.
    Returns: step size, units of 1/feature^2.
    Raises: InputError for n == d, where the smallest eigenvalue tends to 0 and with it the rate.
    Source: Paquette, Lee, Pedregosa & Paquette, COLT 2021 (paquette2021sgd), isotropic; any covariance by the
      equation of the lower edge in Silverstein & Choi, J. Multivariate Analysis 1995 (silverstein1995).
    """
    s, u = _lower_edge(spectrum, n)
    return float(2 * _batch(batch) / _kernel_integral(s, u, n))


def limiting_rate(spectrum: ArrayLike, *, n: float, step_size: float, batch: float = 1) -> float:
    """The convergence rate in the limit of many samples and directions, with its phase transition.

    Args: as in `critical_step_size`; step_size: eta, units of 1/feature^2.
    Returns: rate per step: 2 eta h_- up to `critical_step_size`, the root of the kernel equation above it, negative
      where SGD diverges.
    Raises: InputError as in `critical_step_size`.
    Source: as in `critical_step_size`.
    """
    s, edge = _lower_edge(spectrum, n)
    step_size, target = as_positive(step_size, "step_size"), 2 * _batch(batch) / as_positive(step_size, "step_size")
    if _kernel_integral(s, edge, n) <= target:
        return float(2 * step_size * _location(s, edge, n))
    low = edge - s.max()
    while _kernel_integral(s, low, n) > target:
        low = 2 * low - edge
    u = _root(lambda u: _kernel_integral(s, u, n) - target, low, edge, xtol=1e-14 * s.max())
    return float(2 * step_size * _location(s, u, n))


def _moments(h, solution, floor, step_size, batch, steps):
    """Distance of the mean from least squares, exact near 0, and variance: each (steps, M, directions)."""
    distance, variance = -solution, np.zeros_like(h)
    keep, keep2, noise = 1 - step_size * h, (1 - step_size * h) ** 2, step_size**2 / batch * h
    distances, variances = np.zeros((2, len(steps), *h.shape))
    slot = 0
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging line is an answer, not an accident
        for t in range(int(steps[-1]) + 1):
            while slot < len(steps) and steps[slot] == t:
                distances[slot], variances[slot] = distance, variance
                slot += 1
            squared_error = floor + np.sum((distance**2 + variance) * h, axis=1)
            variance = keep2 * variance + squared_error[:, None] * noise
            distance = keep * distance
    return distances, variances


def _root(function: Callable[[float], float], low: float, high: float, *, xtol: float) -> float:
    return float(root_scalar(function, bracket=(low, high), method="brentq", xtol=xtol, rtol=1e-14).root)


def _largest_root(weights: np.ndarray, gaps: np.ndarray) -> float:
    """The root x > 0 of sum_j weights_j / (gaps_j + x) = 1, for gaps >= 0 with one equal to 0."""
    high = weights.sum()
    low = weights[gaps == 0].sum()  # the sum there is at least 1
    if low >= high:
        return float(high)
    return _root(lambda x: np.sum(weights / (gaps + x)) - 1, low, high, xtol=1e-300)


def _lower_edge(spectrum: ArrayLike, n: float) -> tuple[np.ndarray, float]:
    """Eigenvalues, and the u < min(spectrum) at which the map u -> z has its maximum: the lower edge of the spectrum.

    -u is the effective ridge that belongs to the ridge -z (theory/ridge.py), continued to negative ridges.
    """
    s, n = as_vector(spectrum, "spectrum"), as_positive(n, "n")
    if (s <= 0).any():
        raise InputError(
            f"spectrum[{int(np.argmax(s <= 0))}] is not positive", do="leave out directions of no variance"
        )
    if n == len(s):
        raise InputError(
            f"n = d = {len(s)}: the smallest eigenvalue tends to 0 and SGD has no rate", do="use another n"
        )
    slope = lambda u: 1 - np.sum((s / (s - u)) ** 2) / n  # falls from 1 to -inf
    low = -s.max()
    while slope(low) <= 0:
        low *= 2
    return s, _root(slope, low, s.min() * (1 - 1e-13), xtol=1e-15 * s.max())


def _location(s: np.ndarray, u: float, n: float) -> float:
    """The point z of the real line, at or below the lower edge, that belongs to u."""
    return float(u * (1 - np.sum(s / (s - u)) / n))


def _kernel_integral(s: np.ndarray, u: float, n: float) -> float:
    """d times the integral of h^2 / (h - z) over the limiting law of the eigenvalues h of X^T X / n."""
    return float(s.sum() + _location(s, u, n) * np.sum(s / (s - u)))


def _eigenvalues(X: ArrayLike) -> np.ndarray:
    """Positive eigenvalues of X^T X / n from features (n, d) or from themselves (d,)."""
    X = as_array(X, "X", ndim=(1, 2))
    if X.ndim == 2:
        h = np.linalg.svd(X, compute_uv=False) ** 2 / len(X)
        rounding = h.max() * max(X.shape) * np.finfo(float).eps
    else:
        if (X < 0).any():
            raise InputError(f"eigenvalue {int(np.argmax(X < 0))} is negative ({X.min()})", do="pass values >= 0")
        h, rounding = X, 0.0
    if not (h > rounding).any():
        raise InputError("X is zero", do="pass features with some variance")
    return h[h > rounding]


def _batch(batch: float) -> float:
    if not as_positive(batch, "batch") >= 1:
        raise InputError(f"batch={batch} must be at least 1")
    return float(batch)


def _steps(record: xr.DataArray | ArrayLike) -> tuple[xr.DataArray, np.ndarray]:
    if not isinstance(record, xr.DataArray):
        given = np.atleast_1d(np.asarray(record))
        record = xr.DataArray(given, {"step": given}, "step")
    steps = np.asarray(record.values)
    if steps.ndim != 1 or steps.size == 0 or not np.issubdtype(steps.dtype, np.integer):
        raise InputError("record must be a list of whole numbers of steps")
    if steps[0] < 0 or (np.diff(steps) < 0).any():
        raise InputError(f"record must be sorted and >= 0, got {steps.tolist()}")
    return record, steps
