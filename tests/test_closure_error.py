"""The measured error of a cheaper closure bounds its true one."""

import numpy as np
import pytest
import xarray as xr

from riron.forecast.closure_error import cheaper, with_closure_error
from riron.theory.least_squares_forecast import LOSSES, least_squares_sgd
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge


def test_half_of_the_directions_and_rows_bounds_what_the_whole_lacks():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((360, 12)) * np.arange(1, 13) ** -0.7 * rng.lognormal(0, 0.5, (360, 1))
    y = X @ rng.standard_normal(12) + rng.standard_normal(360)
    spectrum = Spectrum.of(X[:300], y[:300], X[300:], y[300:])
    step_size = 0.4 * stability_edge(spectrum, batch=2).step_size
    record = xr.DataArray([5, 50, 300], {"step": [5, 50, 300]}, "step")

    def forecast(covariance="full", rows=None, seed=0):
        return least_squares_sgd(
            spectrum, batch=2, step_size=step_size, record=record, sampling="with-replacement", covariance=covariance,
            rows=rows, seed=seed, errors=False,
        )  # fmt: skip

    whole, less = forecast(), forecast("block:4", 200)
    stated = with_closure_error(less, forecast, "block:4", 200, 300)
    for name in LOSSES:
        true = np.abs(less[name] / whole[name] - 1).max()
        assert 1e-6 < true < stated[f"{name}_tolerance"].max() < 0.2
    assert "%" in stated.attrs["closure"]
    assert with_closure_error(whole, forecast, "full", None, 300) is whole


@pytest.mark.parametrize(
    ("closure", "less"),
    [
        (("full", None), None),
        (("full", 100), ("full", 50)),
        (("block:9", None), ("block:4", None)),
        (("block:1", 900), ("block:1", 150)),
    ],
)
def test_less_is_half(closure, less):
    assert cheaper(*closure, 300) == less
