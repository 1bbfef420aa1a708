"""The risk of ridgeless regression peaks at n = d and descends again; ridge removes the peak (B1).

Dots: ridge or minimum-norm fits on Gaussian rows, each with its exact population risk. Line: the fixed point of the
effective ridge, in the limit of many samples and directions at a fixed n/d, which is approached like 1/d.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..lab.running import trials
from ..lab.verdict import Equal
from ..theory.ridge import ridge_curve
from .base import Study, param

# n/d; n is whole at sizes that 20 divides. Closer to the peak the risk of one fit has too heavy tails for a mean.
RATIOS = np.array([0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.85, 1.15, 1.2, 1.35, 1.6, 2.0, 3.0, 4.0])


@dataclass(frozen=True, kw_only=True)
class DoubleDescent(Study):
    cites = ("hastie2022surprises",)
    sizes = {"quick": (40, 80, 120), "paper": (80, 160, 320, 640)}
    compare = (Equal("test_loss", rates=(1,)), Equal("train_loss", rates=(1,)))
    mutations = {"label_noise": 1.2, "signal": 1.15}
    diagram = {
        "over": {"label_noise": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6), "ridge": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)},
        "observable": "excess_risk_over_best",
    }
    labels = {"size": "d", "excess_risk_over_best": "excess risk at n = 1.2 d / the least that any ridge gives"}

    label_noise: float = param(0.25, 0.0, 100.0, "variance of the label noise", "label^2")
    ridge: float = param(0.0, 0.0, 1000.0, "penalty on |theta|^2, 0 for the minimum norm", "feature^2")
    decay: float = param(0.0, 0.0, 3.0, "covariance eigenvalues decay like j^-decay, 0 for isotropic")
    strength: float = param(1.0, 0.0, 100.0, "length of the signal", "label/feature")

    def law(self, d):
        spectrum = np.arange(1, d + 1.0) ** -self.decay
        signal = np.full(d, self.strength / np.sqrt(d))
        return {"spectrum": spectrum / spectrum.mean(), "signal": signal, "label_noise": self.label_noise}

    def record(self, d):
        n, axis = np.rint(RATIOS * d), "samples_per_feature"
        record = xr.DataArray(n, {axis: RATIOS, "n_samples": (axis, n)}, axis)
        if self.ridge == 0:
            record[axis].attrs["poles"] = [1.0]  # the interpolation threshold, where the risk is infinite
        return record

    def simulate(self, d, *, seeds):
        n_samples = self.record(d)
        with jax.enable_x64(True):  # a small eigenvalue of the sample covariance must not drown in rounding
            runs = trials(
                fit_all,
                seeds=seeds,
                seed=self.seed,
                rows=jnp.zeros(int(n_samples.max())),
                n_samples=n_samples.values,
                ridge=self.ridge,
                **self.law(d),
            )
        axes = {f"{name}_0": n_samples.dims[0] for name in runs.data_vars}
        return runs.rename_dims(axes).assign_coords(n_samples.coords)

    def predict(self, d):
        return partial(ridge_curve, n_samples=self.record(d), ridge=self.ridge, **self.law(d))

    def observe(self, dataset):
        """Excess risk at n = 1.2 d over the least that any ridge gives there, in the limit."""
        here = {"samples_per_feature": int(np.argmax(RATIOS == 1.2))}
        n_samples = dataset.n_samples.isel({"samples_per_feature": [*here.values()]})
        law = self.law(round(float(n_samples[0]) / 1.2))
        best = ridge_curve(n_samples=n_samples, ridge=self.best_ridge(1.2), **law)
        excess = dataset.excess_risk.isel(here).reset_coords(drop=True)
        return xr.Dataset({"excess_risk_over_best": excess / float(best.excess_risk[0])})

    def best_ridge(self, samples_per_feature):
        """label_noise d / (n |signal|^2): the ridge of the Bayes estimator, best for any covariance."""
        return self.label_noise / (samples_per_feature * self.strength**2)

    def boundary(self, over):
        """Where the ridge turns from too weak to too strong."""
        if set(over) != {"label_noise", "ridge"}:
            return None
        noise = np.geomspace(min(over["label_noise"]), max(over["label_noise"]), 100)
        return {"label_noise": noise, "ridge": noise / (1.2 * self.strength**2)}, "best ridge"


def fit_all(key, *, rows, n_samples, ridge, spectrum, signal, label_noise):
    """Losses of the fits on the first n of the rows, for each n.

    n is a value, not a shape, so that all n share one compilation: rows beyond n are zeroed. Below d samples the fit is
    solved in the space of the samples, where the minimum norm needs no inverse of a singular matrix.
    """
    d, keys = len(spectrum), jax.random.split(key)
    X = jax.random.normal(keys[0], (len(rows), d)) * jnp.sqrt(spectrum)
    y = X @ signal + jnp.sqrt(label_noise) * jax.random.normal(keys[1], (len(rows),))

    def by_samples(X, y, unused, penalty):
        few = X[:d]  # all samples there are
        gram = few @ few.T + jnp.diag(unused[:d]) + penalty * jnp.eye(d)
        return few.T @ jax.scipy.linalg.solve(gram, y[:d], assume_a="pos")

    def by_features(X, y, unused, penalty):
        return jax.scipy.linalg.solve(X.T @ X + penalty * jnp.eye(d), X.T @ y, assume_a="pos")

    def fit(n):
        used = 1.0 * (jnp.arange(len(rows)) < n)
        features, targets = X * used[:, None], y * used
        theta = jax.lax.cond(n < d, by_samples, by_features, features, targets, 1 - used, n * ridge)
        excess = jnp.sum(spectrum * (theta - signal) ** 2) / 2
        train = jnp.sum((targets - features @ theta) ** 2) / (2 * n)
        return {"test_loss": excess + label_noise / 2, "excess_risk": excess, "train_loss": train}

    return jax.lax.map(fit, n_samples)
