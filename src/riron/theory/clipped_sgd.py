"""SGD on least squares with per-row gradient clipping: Gaussian closure, batches drawn with replacement.

The gradient of row i is r_i z_i; clipped at norm c it is psi(r_i) z_i with psi(r) = min(1, t_i / |r|) r and the row's
own threshold t_i = c / |z_i|: SGD on a Huber loss that bends earlier for heavy rows. Residuals are Gaussian, so the
mean kick, its derivative and its square are known in closed form, and `gaussian_closure` does the rest.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.scipy.stats import norm

from ..checks import as_positive
from ..errors import InputError
from . import gaussian_closure as closure
from . import output_covariance as structure
from .marching import march
from .output_moments import RowMoments
from .problem_arrays import Setting, sample_rows
from .spectrum import Spectrum, check_setting
from .step_sizes import StepSizes

FULL = 300  # directions whose covariance is kept in full


class Losses(NamedTuple):
    """Expected squared losses / 2 (not the clipped ones), and the share of visits that are clipped."""

    train_loss: jax.Array
    test_loss: jax.Array
    clipped: jax.Array


def clipped_sgd(
    spectrum: Spectrum,
    *,
    batch: float,
    step_size: float,
    threshold: float,
    record: xr.DataArray,
    ridge: float = 0.0,
    rows: int | None = None,
    rtol: float = 1e-3,
    seed: int = 0,
) -> xr.Dataset:
    """Expected losses of SGD on least squares, started at 0, each row's gradient clipped at norm `threshold`.

    Args:
      spectrum: the data with one output, see `Spectrum.of`.
      batch: rows per step drawn with replacement, in [1, n].
      step_size: constant, units of 1/feature^2.
      threshold: largest norm of one row's gradient, label x feature.
      record: increasing whole steps at which to report.
      ridge: penalty ridge/2 |theta|^2, not clipped, not part of the losses.
      rows: how many training rows stand for all of them (a weighted sample); None for all.
      rtol: largest relative difference of prediction and correction accepted in one interval.
      seed: of the sample of rows.
    Returns: Dataset on the record's axis: train_loss, test_loss (squared error / 2, without held-out rows absent), and
      clipped, the share of visited rows whose gradient is clipped.
    Raises: InputError for values out of range.
    """
    check_setting(spectrum, batch=batch, ridge=ridge)
    as_positive(threshold, "threshold")
    if spectrum.outputs != 1:
        raise InputError(f"clipping is forecast for one output and the targets have {spectrum.outputs} columns")
    p = len(spectrum.eigenvalues)
    k = min(p, FULL)
    chosen, weights = sample_rows(spectrum.leverage, rows, seed)
    test_rows, test_targets = spectrum.test_rows, spectrum.test_targets
    with jax.enable_x64(True):

        def table(rows, targets, weights) -> closure.Rows:
            bend = threshold / np.maximum(np.linalg.norm(rows, axis=1), np.finfo(float).tiny)
            return closure.Rows(*(jnp.asarray(a)[None] for a in (rows, np.column_stack([targets, bend]), weights)))

        train = table(spectrum.rows[chosen], spectrum.targets[chosen], weights)
        test = train
        if test_rows is not None and test_targets is not None:
            test = table(test_rows, test_targets, np.full(len(test_rows), 1 / len(test_rows)))
        arrays = closure.Table(train, test, train, jnp.asarray(spectrum.n, float))
        steps = np.asarray(record.values)
        setting = Setting(StepSizes.of(step_size, int(steps[-1])), jnp.asarray(1 / batch), jnp.asarray(float(ridge)))
        start = closure.Gaussian(jnp.zeros((p, 1)), structure.zeros(k, p, 1, jnp.float64))
        seen = _solve(arrays, setting, start, jnp.asarray(steps, jnp.int64), jnp.asarray(rtol))
    keep = {name: (record.dims, np.asarray(value, float)) for name, value in seen._asdict().items()}
    if test_rows is None:
        del keep["test_loss"]
    return xr.Dataset(keep, coords=dict(record.coords) or {record.dims[0]: record.values})


@jax.jit
def _solve(table: closure.Table, setting: Setting, start: closure.Gaussian, stops, rtol):
    def distance(predicted, corrected, there):
        return closure.moved(table, clipped_moments, predicted, corrected, there.slope, there.curvature, there.value)

    return march(
        start,
        stops=stops,
        restarts=jnp.zeros(len(stops), bool),
        sources=lambda time, at: closure.averages(table, clipped_moments, at),
        propagate=partial(closure.propagate, setting),
        distance=distance,
        measure=lambda time, at, seen: _losses(table, at),
        restart=lambda at, _: at,
        limit=setting.steps.limit,
        rtol=rtol,
    )


def _losses(table: closure.Table, at: closure.Gaussian) -> Losses:
    def of(z, y, w):
        mean, covariance = z @ at.mean - y[:, :-1], structure.along(z, at.covariance)
        return w @ (jnp.sum(mean**2, axis=1) + jnp.trace(covariance, axis1=1, axis2=2)) / 2

    def clipped(z, y, w):
        kept = clipped_moments(y, z @ at.mean, structure.along(z, at.covariance)).curvature  # psi' is 1 or 0
        return 1 - w @ kept[:, 0, 0]

    train, test = (closure.sum_over(rows, of) for rows in (table.train, table.test))
    return Losses(train, test, closure.sum_over(table.train, clipped))


def clipped_moments(targets: jax.Array, mean: jax.Array, covariance: jax.Array) -> RowMoments:
    """Averages over one Gaussian output, r ~ N(m, s^2) cut at -t and t; targets (n, 2): the label, and the row's t."""
    m, t = mean[:, 0] - targets[:, 0], targets[:, 1]
    s = jnp.sqrt(jnp.maximum(covariance[:, 0, 0], 1e-16 * (m**2 + t**2)))
    a, b = (-t - m) / s, (t - m) / s
    below, above = norm.cdf(a), norm.sf(b)
    inside = jnp.maximum(1 - below - above, 0)
    at_a, at_b = norm.pdf(a), norm.pdf(b)
    slope = t * (above - below) + m * inside + s * (at_a - at_b)
    second = (m**2 + s**2) * inside + 2 * m * s * (at_a - at_b) - s**2 * (b * at_b - a * at_a)
    square = t**2 * (above + below) + second
    outside = m * (above - below) + s * (at_a + at_b)  # E |r| beyond the threshold
    value = second / 2 + t * outside - t**2 * (above + below) / 2
    return RowMoments(value, slope[:, None], inside[:, None, None], square[:, None, None])
