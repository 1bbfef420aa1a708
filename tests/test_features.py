"""Features: standardised, random, or the user's own; everything is measured on the training rows."""

import numpy as np
import pandas as pd
import pytest

from riron.errors import InputError
from riron.forecast.features import free_memory, make_features
from riron.forecast.tables.reading import read_table

N, M = 160, 40


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N + M, 5)) * [1, 10, 0.1, 1, 1000] + [0, 5, 0, -3, 10**6]
    return X, 3 * X[:, 0] + 7 + rng.normal(size=N + M)


@pytest.fixture
def table(data):
    return read_table(data)


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


def test_raw_features_are_standardised_on_training_rows(table):
    features = make_features(table)
    assert features.F.shape == (N, 6)
    np.testing.assert_allclose(features.F[:, :-1].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(features.F[:, :-1].std(axis=0), 1, rtol=1e-12)
    np.testing.assert_array_equal(features.F[:, -1], 1)
    np.testing.assert_array_equal(features.F_test[:, -1], 1)
    expected = (table.X_test - table.X.mean(axis=0)) / table.X.std(axis=0)
    np.testing.assert_allclose(features.F_test[:, :-1], expected, rtol=1e-9, atol=1e-9)
    assert features.names == [*table.columns, "constant"]


def test_held_out_rows_change_nothing_of_the_training_rows(data):
    X, y = data
    frame = pd.DataFrame(X).assign(y=y)
    far = frame.tail(M) * 100
    for spec in ("raw", "relu:20", "fourier:20"):
        near = make_features(read_table(frame.head(N), target="y", test=frame.tail(M)), spec)
        moved = make_features(read_table(frame.head(N), target="y", test=far), spec)
        np.testing.assert_array_equal(near.F, moved.F)
        np.testing.assert_array_equal(near.Y, moved.Y)


def test_regression_targets_are_scaled_and_come_back(table):
    features = make_features(table)
    assert features.Y.shape == (N, 1)
    np.testing.assert_allclose([features.Y.mean(), features.Y.std()], [0, 1], atol=1e-12)
    np.testing.assert_allclose(features.Y_test[:, 0] * features.target_scale + features.target_mean, table.y_test)


def test_classes_become_one_hot(data):
    labels = np.array(["p", "q", "r"])[np.arange(N + M) % 3]
    table = read_table((data[0], labels))
    features = make_features(table)
    np.testing.assert_array_equal(features.Y, table.y[:, None] == np.arange(3))
    np.testing.assert_array_equal(features.Y_test.argmax(axis=1), table.y_test)
    assert features.classes == ["p", "q", "r"]
    np.testing.assert_array_equal([features.target_mean, features.target_scale], [[0] * 3, [1] * 3])


def test_relu_features_have_the_arc_cosine_kernel():
    """E relu(w.x) relu(w.x') = |x||x'| (sin t + (pi - t) cos t) / 2 pi for w ~ N(0, I): the law of W is right."""
    rng = np.random.default_rng(1)
    table = read_table((rng.normal(size=(80, 4)), rng.normal(size=80)))
    count = 40_000
    features = make_features(table, f"relu:{count}", seed=3)
    Z = make_features(table).F[:, :-1]
    length = np.linalg.norm(Z, axis=1)
    cosine = np.clip(Z @ Z.T / np.outer(length, length), -1, 1)
    angle = np.arccos(cosine)
    kernel = np.outer(length, length) / 4 * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
    centre = np.eye(len(Z)) - 1 / len(Z)
    measured = features.F[:, :-1] @ features.F[:, :-1].T / count
    # one entry's standard error is below |z|^2 sqrt(15) / (4 sqrt(count)), from E relu^4; 6 of them for all entries
    assert np.abs(measured - centre @ kernel @ centre).max() < 6 * length.max() ** 2 * np.sqrt(15) / 4 / np.sqrt(count)
    np.testing.assert_allclose(features.F[:, :-1].mean(axis=0), 0, atol=1e-12)
    wrong = 1.1**2 * centre @ kernel @ centre  # a scale that is 10 % off must be seen in the trace
    assert abs(np.trace(measured) / np.trace(centre @ kernel @ centre) - 1) < 0.03
    assert abs(np.trace(measured) / np.trace(wrong) - 1) > 0.1


def test_fourier_features_have_the_gaussian_kernel():
    """E cos(w.x + b) cos(w.x' + b) = exp(-|x - x'|^2 / 2 s^2) / 2, s the median distance."""
    rng = np.random.default_rng(2)
    table = read_table((rng.normal(size=(90, 4)), rng.normal(size=90)))
    count = 40_000
    features = make_features(table, f"fourier:{count}", seed=5)
    Z = make_features(table).F[:, :-1]
    distance = np.linalg.norm(Z[:, None] - Z[None], axis=2)
    centre = np.eye(len(Z)) - 1 / len(Z)
    measured = features.F[:, :-1] @ features.F[:, :-1].T / count
    median = np.median(distance[np.triu_indices(len(Z), 1)])
    error = {}
    for factor in (1.0, 0.8, 1.25):
        kernel = centre @ np.exp(-(distance**2) / 2 / (factor * median) ** 2) @ centre / 2
        error[factor] = np.abs(measured - kernel).max()
    # an entry's standard error is below .5/sqrt(count) = .0025; the median of 1000 pairs is known to about 2 %
    assert error[1.0] < 0.03
    assert min(error[0.8], error[1.25]) > 2 * error[1.0]


def test_random_features_depend_on_the_seed_alone(table):
    for spec in ("relu:30", "fourier:30"):
        a, again, b = (make_features(table, spec, seed=s).F for s in (1, 1, 2))
        np.testing.assert_array_equal(a, again)
        assert not np.allclose(a, b)
        assert a.shape == (N, 31)
        assert np.ptp(a[:, :-1].std(axis=0)) > 0.01  # centred, not scaled


def test_constant_features_are_dropped_and_said(table):
    X = table.X.copy()
    X[:, 2] = 0.1
    X[:, 3] = 1e9 + 1e-4 * X[:, 3]  # varies in the last digits only
    held = type(table)(**{**vars(table), "X": X})
    features = make_features(held)
    assert features.F.shape == (N, 4)
    assert features.names == ["x1", "x2", "x5", "constant"]
    assert "2 features are constant" in features.notes[0]
    refused(lambda: make_features(type(table)(**{**vars(table), "X": np.ones_like(X)})), "every feature is constant")


def test_dead_relu_features_are_dropped():
    """On two rows and one column half of the relu features see one row only; none may be left constant."""
    X = np.r_[np.full(40, 1.0), np.full(40, -1.0)]
    features = make_features(read_table((X[:, None], X + np.arange(80) % 2)), "relu:50")
    assert (features.F[:, :-1].std(axis=0) > 0).all()


def test_embeddings_follow_the_split(tmp_path, data):
    X, y = data
    keys = np.arange(N + M, dtype=float)
    np.savez(tmp_path / "e.npz", X=np.c_[keys, keys**2])
    np.savez(tmp_path / "only.npz", vectors=keys)
    y_gap = y.copy()
    y_gap[7] = np.nan  # a row that is left out must not shift the others
    table = read_table((X, y_gap), impute=True)
    for name, columns in (("e.npz", 2), ("only.npz", 1)):
        features = make_features(table, f"npz:{tmp_path / name}")
        assert features.F.shape == (table.n, columns + 1)
        mean, scale = table.train_rows.mean(), table.train_rows.std()
        np.testing.assert_allclose(features.F[:, 0], (table.train_rows - mean) / scale)
        np.testing.assert_allclose(features.F_test[:, 0], (table.test_rows - mean) / scale)


def test_embeddings_that_do_not_fit(tmp_path, table):
    def saved(**arrays):
        np.savez(tmp_path / "e.npz", **arrays)
        return f"npz:{tmp_path / 'e.npz'}"

    rows = np.random.default_rng(0).normal(size=(N + M, 2))
    refused(lambda: make_features(table, saved(X=rows[1:])), "199 rows", "200")
    refused(lambda: make_features(table, saved(a=rows, b=rows)), "no array 'X'", "a, b")
    refused(lambda: make_features(table, saved(X=rows.astype(object))), "objects", "never")
    refused(lambda: make_features(table, saved(X=rows.astype(str))), "matrix of numbers")
    rows[3, 1] = np.inf
    refused(lambda: make_features(table, saved(X=rows)), "not finite", "row 4, column 2")
    refused(lambda: make_features(table, f"npz:{tmp_path / 'none.npz'}"), "no file")
    (tmp_path / "text.npz").write_text("a,b\n1,2\n")
    refused(lambda: make_features(table, f"npz:{tmp_path / 'text.npz'}"), "not an NPZ")


@pytest.mark.parametrize(
    "spec", ["relu", "relu:", "relu:x", "relu:0", "relu:-3", "fourier:1.5", "rule:3", "", "npz:", "raw:3"]
)
def test_specs_that_say_nothing(table, spec):
    refused(lambda: make_features(table, spec), "--features")


def test_the_nearest_spec_is_named(table):
    refused(lambda: make_features(table, "rleu:300"), "did you mean 'relu'")


def test_memory_is_asked_for_before_it_is_taken(table):
    words = ("relu:1000000 needs 3.0 GiB", "200 rows", "relu:311", "fewer rows")
    refused(lambda: make_features(table, "relu:1000000", max_bytes=10**6), *words)
    make_features(table, "relu:311", max_bytes=10**6)
    refused(lambda: make_features(table, "fourier:999999999999"), "fourier", "needs", "GiB")
    assert 2**20 < free_memory() < 2**50
