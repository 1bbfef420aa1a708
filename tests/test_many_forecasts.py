"""Settings forecast side by side are the single ones, in whatever chunks."""

import numpy as np
import pytest

from riron import forecast
from riron.errors import InputError
from riron.theory import many_forecasts

RECORD = [0, 1, 10, 60, 100, 150]


def table():
    random = np.random.default_rng(0)
    X = random.standard_normal((80, 5))
    y = X[:, :1] + random.standard_normal((80, 1))
    return {"X": X[:60], "y": y[:60], "X_test": X[60:], "y_test": y[60:]}


def test_shuffled_settings_in_chunks(monkeypatch):
    monkeypatch.setattr(many_forecasts, "SIDE_BY_SIDE", 2)
    settings = [
        {"batch": 1, "step_size": 0.03},
        {"batch": 7, "step_size": 0.05},
        {"batch": 4, "step_size": 0.1, "steps": 60},
    ]
    many = forecast.sgd_many(**table(), settings=settings, steps=150, record=RECORD)
    for i in (0, 1):
        one = forecast.sgd(**table(), **settings[i], steps=150, record=RECORD)
        assert many.attrs == one.attrs == {"sampling": "epochs", "covariance": "full", "rows": 60}
        for name in one:
            # The numerical error is a small difference of two solutions, and loses that many digits.
            rtol = 1e-3 if name.endswith("stderr") else 1e-6
            np.testing.assert_allclose(many[name].isel(point=i), one[name], rtol=rtol, atol=1e-10, err_msg=str(name))
    assert many.steps.isel(point=2).values.tolist() == [0, 0, 4, 24, 40, 60]
    np.testing.assert_array_equal(many.batch, [1, 7, 4])


def test_bad_settings_are_one_sentence():
    with pytest.raises(InputError, match="settings is empty"):
        forecast.sgd_many(**table(), settings=[], steps=10)
    with pytest.raises(InputError, match="batch=70"):
        forecast.sgd_many(**table(), settings=[{"batch": 70, "step_size": 0.1}], steps=10)
    with pytest.raises(InputError, match="unknown"):
        forecast.sgd_many(**table(), settings=[{"batch": 2, "step_size": 0.1}], steps=10, shuffle="sometimes")
