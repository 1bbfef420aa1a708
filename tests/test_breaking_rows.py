"""Rows that set the edge, and clipping, against removal by hand and against runs in NumPy."""

import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.forecast.breaking_rows import breaking_rows, breaking_sentences
from riron.forecast.edge_table import describe_edge
from riron.theory.clipped_sgd import clipped_sgd
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge

N, P = 80, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, P))
X[7], X[30] = [6.0, 6.0, 6.0, 6.0], [5.0, -5.0, 5.0, -5.0]  # two heavy rows
Y = X @ np.array([1.0, -1.0, 0.5, 0.0]) + RNG.normal(size=N)
HEAVY = Spectrum.of(X, Y)


pytestmark = pytest.mark.usefixtures("quick_compilation")


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


def test_heavy_rows_are_named_and_the_edges_are_those_without_them():
    found = breaking_rows(X, batch=2, ridge=0.1, counts=(1, 2, 10))
    assert np.argmax(found.share.values) == 7  # and row 30 takes over when it has gone
    assert found.share.values.sum() == pytest.approx(1)
    assert found.order.values[[7, 30]].tolist() == [1, 2]
    assert (found.order.values > 0).sum() == 10
    np.testing.assert_allclose(found.leverage.values, (X**2).sum(1) / (X**2).sum(1).mean())
    for count, edge in zip(found.removed.values, found.edge.values, strict=True):
        order = found.order.values
        kept = (order == 0) | (order > count)
        by_hand = stability_edge(Spectrum.of(X[kept], Y[kept]), batch=2, ridge=0.1).step_size
        assert edge == pytest.approx(by_hand, rel=2e-3)
    assert found.larger_step.values[0] == 1
    assert found.larger_step.values[2] > 2
    assert "Without the 2 rows" in breaking_sentences(found)[1]


def test_momentum_is_taken_into_account():
    plain, heavy = (breaking_rows(X, batch=2, counts=(1,), momentum=m).edge.values for m in (0.0, 0.8))
    assert np.all(heavy < 0.5 * plain)


def test_steps_to_the_level_without_the_heavy_rows_are_those_of_the_forecast():
    found = breaking_rows(HEAVY, batch=1, counts=(2,), speed=True, epochs=20, threshold=2.0)
    assert found.faster.values[0] == 1
    assert found.faster.values[1] == found.steps.values[0] / found.steps.values[1]
    assert found.clipped_faster == found.steps.values[0] / found.clipped_steps
    kept = found.order.values == 0
    smaller = Spectrum.of(X[kept], Y[kept])
    steps = round(float(found.steps[1]))
    reached = []
    for fraction in (0.05, 0.1, 0.2, 0.4, 0.7):
        line = least_squares_sgd(
            smaller,
            batch=1,
            step_size=fraction * float(found.edge[1]),
            record=xr.DataArray([steps], {"step": [steps]}, "step"),
            sampling="with-replacement",
        )
        reached.append(float(line.train_loss[0]))
    assert min(reached) == pytest.approx(float(found.level), rel=0.05)
    assert len(breaking_sentences(found)) == 2


def clipped_runs(step_size, threshold, batch, steps, seeds=400):
    rng = np.random.default_rng(1)
    w, seen = np.zeros((seeds, P)), []
    for step in range(1, steps[-1] + 1):
        rows = X[rng_rows := rng.integers(N, size=(seeds, batch))]
        g = (np.einsum("sbp,sp->sb", rows, w) - Y[rng_rows])[:, :, None] * rows
        g *= np.minimum(1, threshold / np.linalg.norm(g, axis=2))[:, :, None]
        w = w - step_size * g.mean(axis=1)
        if step in steps:
            seen.append(np.mean((w @ X.T - Y) ** 2, axis=1) / 2)
    seen = np.array(seen)
    return seen.mean(axis=1), seen.std(axis=1, ddof=1) / np.sqrt(seeds)


@pytest.mark.parametrize(("batch", "fraction"), [(1, 0.5), (4, 1.5)])
def test_clipped_training_is_forecast_above_the_edge_too(batch, fraction):
    """Within 5 standard errors and 3 % of the excess loss for the closure; a threshold of twice the size is seen."""
    steps, threshold = [5, 40, 200], 1.5
    step_size = fraction * stability_edge(HEAVY, batch=batch).step_size
    record = xr.DataArray(steps, {"step": steps}, "step")
    forecast = lambda t: clipped_sgd(HEAVY, batch=batch, step_size=step_size, threshold=t, record=record)
    mean, error = clipped_runs(step_size, threshold, batch, steps)
    line = forecast(threshold)
    gap = np.abs(line.train_loss.values - mean)
    assert np.all(gap < 5 * error + 0.03 * mean), gap / mean
    wrong = np.abs(forecast(2 * threshold).train_loss.values - mean)
    assert wrong.max() > 8 * error.max()
    assert np.all((line.clipped.values > 0) & (line.clipped.values < 1))
    assert "test_loss" not in line


def test_without_clipping_it_is_least_squares():
    held_out = Spectrum.of(X, Y, 1.1 * X, Y)
    record = xr.DataArray([3, 50, 300], {"step": [3, 50, 300]}, "step")
    setting = {"batch": 2, "step_size": 0.01, "ridge": 0.1, "record": record}
    clipped = clipped_sgd(held_out, threshold=1e6, **setting)
    plain = least_squares_sgd(held_out, sampling="with-replacement", errors=False, **setting)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(clipped[name].values, plain[name].values, rtol=2e-3)
    assert clipped.clipped.values.max() < 1e-6


def test_the_description_of_the_edge_names_rows_by_their_place():
    edge = stability_edge(HEAVY, batch=2)
    found, _ = describe_edge(HEAVY, edge, 2, 2 * edge.step_size, 0.0, np.arange(N) + 100)
    assert found["rows"][0]["row"] == 108
    assert [entry["rows"] for entry in found["without"]] == [1, 2, 5]
    assert found["without_them"] == found["without"][-1]["step_size"]
    kept = np.delete(np.arange(N), [row["row"] - 101 for row in found["rows"]])
    assert found["without_them"] == pytest.approx(
        stability_edge(Spectrum.of(X[kept], Y[kept]), batch=2).step_size, rel=2e-3
    )
    assert found["growth_factor"] > 1
    small = Spectrum.of(X[:3], Y[:3])
    assert describe_edge(small, stability_edge(small, batch=3), 3, 0.1, 0.0, np.arange(3))[0]["without"] == []


def test_bad_settings_are_refused():
    refused(lambda: breaking_rows(X, batch=2, counts=(2, 1)), "increase")
    refused(lambda: breaking_rows(X, batch=2, counts=(79,)), "79 of 80 rows")
    refused(lambda: breaking_rows(X, batch=2, speed=True), "pass y")
    refused(lambda: breaking_rows(X, batch=200), "batch=200")
    record = xr.DataArray([1], {"step": [1]}, "step")
    refused(lambda: clipped_sgd(HEAVY, batch=1, step_size=0.1, threshold=0.0, record=record), "threshold")
    two = Spectrum.of(X, np.stack([Y, Y], axis=1))
    refused(lambda: clipped_sgd(two, batch=1, step_size=0.1, threshold=1.0, record=record), "2 columns")
