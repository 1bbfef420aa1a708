"""Ridge and ridgeless least squares in the proportional limit, for any covariance.

Everything follows from one number, the effective ridge kappa: the regularisation that a ridge regression on n samples
feels once the fluctuations of its own sample covariance are counted in. With kappa, direction j of the features keeps
the share s_j / (s_j + kappa) of the signal.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.optimize import root_scalar

from ..checks import as_positive, as_vector
from ..errors import InputError


class RidgeParts(NamedTuple):
    """The parts of the expected squared error of ridge regression, in units of label^2."""

    bias: float  # from the signal that is not found
    variance: float  # from the label noise that is fitted
    label_noise: float  # what no predictor avoids
    train: float  # mean squared error on the rows that were fitted

    @property
    def test(self) -> float:
        """Expected squared error on a fresh sample, label noise included."""
        return self.bias + self.variance + self.label_noise


def effective_ridge(spectrum: ArrayLike, n: float, ridge: float) -> float:
    """The effective ridge kappa: kappa = ridge + (kappa/n) sum_j s_j / (s_j + kappa).

    Args:
      spectrum: (d,) eigenvalues of the feature covariance, units of feature^2.
      n: number of training samples (> 0; any real number).
      ridge: penalty lam in (1/n)|y - X theta|^2 + lam |theta|^2, units of feature^2 (>= 0).
    Returns: kappa, units of feature^2; 0 without a penalty when n > rank.
    Raises: InputError at the interpolation threshold n == rank with ridge == 0, and for negative or non-finite input.
    Source: Hastie, Montanari, Rosset & Tibshirani, Annals of Statistics 2022 (hastie2022surprises).
    """
    spectrum, n, ridge = _spectrum(spectrum), as_positive(n, "n"), as_positive(ridge, "ridge", zero=True)
    s = spectrum[spectrum > 0]
    if ridge == 0:
        if n == len(s):
            raise InputError(
                f"the risk diverges at the interpolation threshold n = rank = {len(s)}", do="use ridge > 0 or another n"
            )
        if n > len(s):
            return 0.0
    # In log kappa the left side falls monotonically through 1; plain iteration needs 10^4 sweeps at small ridge.
    share = lambda log_kappa: ridge * np.exp(-log_kappa) + np.sum(s / (s + np.exp(log_kappa))) / n - 1
    high = np.log(ridge + s.sum() / n) + 1e-9  # share(high) <= 0 since s/(s+kappa) <= s/kappa
    low = np.log(max(ridge, 1e-300))  # share(low) > 0 as soon as ridge > 0
    if ridge == 0:
        low = np.log(s.min()) - 1
        while share(low) <= 0:  # ends, because share(-inf) = rank/n - 1 > 0
            low -= 10
    log_kappa = root_scalar(share, bracket=(low, high), method="brentq", xtol=1e-14, rtol=1e-15).root
    return float(np.exp(log_kappa))


def ridge_error(spectrum: ArrayLike, signal: ArrayLike, n: float, ridge: float, label_noise: float = 0.0) -> RidgeParts:
    """Bias, variance and training error of ridge regression in the proportional limit.

    Args:
      spectrum: (d,) eigenvalues of the feature covariance, units of feature^2.
      signal: (d,) target coefficients in its eigenbasis.
      n: number of training samples (> 0; any real number).
      ridge: penalty lam in (1/n)|y - X theta|^2 + lam |theta|^2 (>= 0; 0 is the minimum-norm interpolator).
      label_noise: its variance, label^2.
    Returns: a RidgeParts; squared errors (no factor 1/2).
    Raises: InputError if shapes differ, or at the interpolation threshold n == rank with ridge == 0.
    Source: Hastie et al. 2022, Theorem 5 (hastie2022surprises); checked in studies/double_descent.py.
    """
    s, signal = _spectrum(spectrum), as_vector(signal, "signal")
    label_noise = as_positive(label_noise, "label_noise", zero=True)
    if s.shape != signal.shape:
        raise InputError(f"spectrum has {len(s)} entries and signal has {len(signal)}", do="pass one signal for each")
    kappa = effective_ridge(s, n, ridge)
    lost = np.divide(kappa, s + kappa, out=np.ones_like(s), where=s + kappa > 0)  # share of the signal that is missed
    kept = np.where(s > 0, 1 - lost, 0.0)
    overfit = np.sum(kept**2) / n  # df2/n
    bias = float(np.sum(s * (lost * signal) ** 2) / (1 - overfit))
    variance = float(label_noise * overfit / (1 - overfit))
    unfitted = ridge / kappa if kappa > 0 else 1 - np.sum(kept) / n  # 0 for an interpolator
    train = float(unfitted**2 * (bias + variance + label_noise))
    return RidgeParts(bias, variance, label_noise, train)


def ridge_risk(spectrum: ArrayLike, signal: ArrayLike, n: float, ridge: float, label_noise: float = 0.0) -> float:
    """Test risk of ridge regression in the proportional limit.

    Args:
      spectrum: (d,) eigenvalues of the feature covariance, units of feature^2.
      signal: (d,) target coefficients in its eigenbasis.
      n: number of training samples (scalar, > 0).
      ridge: penalty lam in (1/n)|y - X theta|^2 + lam |theta|^2 (>= 0; 0 is the minimum-norm interpolator).
      label_noise: its variance.
    Returns: expected squared error on a fresh sample, label noise included (scalar; no factor 1/2).
    Raises: InputError if shapes differ, or at the interpolation threshold n == rank with ridge == 0, where the risk
      diverges.
    Source: Hastie et al. 2022, Theorem 5 (hastie2022surprises); checked in studies/double_descent.py.
    """
    return ridge_error(spectrum, signal, n, ridge, label_noise).test


def ridge_curve(
    *, spectrum: ArrayLike, signal: ArrayLike, n_samples: xr.DataArray, ridge: float, label_noise: float = 0.0
) -> xr.Dataset:
    """Losses of ridge regression over the number of samples.

    Args:
      spectrum, signal, ridge, label_noise: as in `ridge_error`.
      n_samples: numbers of samples on a labelled axis, such as
        `xr.DataArray([50, 100], {"samples_per_feature": [0.5, 1.0]}, "samples_per_feature")`; a plain array gets the
        dim `n_samples`.
    Returns: Dataset on that axis: `test_loss` and `train_loss` (squared error / 2) and `excess_risk`
      (test_loss - label_noise/2).
    Raises: InputError as in `ridge_error`.
    Source: Hastie et al. 2022 (hastie2022surprises).
    """
    if not isinstance(n_samples, xr.DataArray):
        n_samples = xr.DataArray(np.asarray(n_samples), {"n_samples": np.asarray(n_samples)}, "n_samples")
    parts = [ridge_error(spectrum, signal, n, ridge, label_noise) for n in n_samples.values]
    column = lambda value: (n_samples.dims, 0.5 * np.array([value(part) for part in parts]))
    return xr.Dataset(
        {
            "test_loss": column(lambda part: part.test),
            "excess_risk": column(lambda part: part.bias + part.variance),
            "train_loss": column(lambda part: part.train),
        },
        coords=n_samples.coords,
    )


def _spectrum(values: ArrayLike) -> np.ndarray:
    spectrum = as_vector(values, "spectrum")
    if (spectrum < 0).any():
        j = int(np.argmax(spectrum < 0))
        raise InputError(f"spectrum[{j}]={spectrum[j]} is negative", do="pass eigenvalues of a covariance, all >= 0")
    if not (spectrum > 0).any():
        raise InputError("spectrum is zero in every direction", do="pass at least one positive eigenvalue")
    return spectrum
