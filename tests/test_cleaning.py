"""Cleaning: what each column becomes, what is dropped and said, and what a target may not be."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riron.errors import InputError
from riron.forecast.tables.cleaning import LEVELS
from riron.forecast.tables.reading import read_table

ROWS = 120
SLOW = [HealthCheck.too_slow]


@pytest.fixture
def frame():
    rng = np.random.default_rng(1)
    return pd.DataFrame({"a": rng.normal(size=ROWS), "b": rng.normal(size=ROWS), "y": rng.normal(size=ROWS)})


def done(table, column):
    """What was done to a column: action -> detail."""
    return {r["action"]: r["detail"] for r in table.cleaning if r["column"] == column}


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


def restored(table):
    order = np.argsort(np.concatenate([table.train_rows, table.test_rows]))
    return np.concatenate([table.X, table.X_test])[order]


# ------------------------------------------------------------------------------------------------ columns


def test_useless_columns_are_dropped_and_said(frame):
    frame["same"] = 5
    frame["again"] = frame.a
    frame["empty"] = np.nan
    frame["row"] = np.arange(ROWS) + 1
    frame["house_id"] = np.random.default_rng(0).permutation(10**6)[:ROWS]
    frame["name"] = [f"n{k}" for k in range(ROWS)]
    frame["city"] = [f"c{k % 60}" for k in range(ROWS)]
    frame["story"] = [f"a long text that tells a story and has no end {k % 30}" for k in range(ROWS)]
    frame["lists"] = [[k] for k in range(ROWS)]
    table = read_table(frame, target="y")
    assert table.columns == ["a", "b"]
    expected = {
        "same": "constant",
        "again": "repeats column 'a'",
        "empty": "empty",
        "row": "numbers the rows",
        "house_id": "own number",
        "name": "own text",
        "city": "too many levels",
        "story": "prose",
        "lists": "lists",
    }
    for column, reason in expected.items():
        assert reason in done(table, column)["dropped"]


def test_numbers_that_only_resemble_identifiers_stay(frame):
    frame["year"] = np.arange(ROWS) + 1900
    frame["price_index"] = np.random.default_rng(0).permutation(10**6)[:ROWS]
    assert read_table(frame, target="y").columns == ["a", "b", "year", "price_index"]
    one = np.arange(ROWS, dtype=float)
    assert read_table((one[:, None], one**2)).columns == ["x1"]  # arrays hold no identifiers


def test_categories_become_one_hot(frame):
    rng = np.random.default_rng(0)
    frame["colour"] = rng.choice(["red", "green", "blue"], ROWS)
    frame["flag"] = rng.choice(["yes", "no"], ROWS)
    frame["gap"] = rng.choice(["p", "q", None], ROWS)
    frame["declared"] = pd.Categorical(rng.choice([1, 2, 3], ROWS))
    table = read_table(frame, target="y")
    X = dict(zip(table.columns, restored(table).T, strict=True))
    for level in ("red", "green", "blue"):
        np.testing.assert_array_equal(X[f"colour_{level}"], frame.colour == level)
    np.testing.assert_array_equal(X["flag_yes"], frame.flag == "yes")
    np.testing.assert_array_equal(X["gap_nan"], frame.gap.isna())
    assert {"declared_1", "declared_2", "declared_3"} <= set(table.columns)
    assert "flag_no" not in table.columns
    assert "level of their own" in done(table, "gap")["category"]


def test_many_levels_share_a_column_where_rows_suffice():
    rng = np.random.default_rng(0)
    levels = np.repeat([f"l{k:02d}" for k in range(30)], np.r_[np.full(10, 40), np.full(20, 8)])
    frame = pd.DataFrame({"city": rng.permutation(levels), "y": rng.normal(size=len(levels))})
    table = read_table(frame, target="y")
    assert len(table.columns) <= LEVELS
    assert sum("infrequent" in c for c in table.columns) == 1


def test_levels_that_only_held_out_rows_have_are_said(frame):
    frame["colour"] = np.random.default_rng(0).choice(["red", "green", "blue"], ROWS)
    other = frame.head(40).copy()
    other.loc[3, "colour"] = "violet"
    table = read_table(frame, target="y", test=other)
    assert "1 levels occur in held-out rows only" in done(table, "colour")["category"]
    assert (table.X_test[3, 2:] == 0).all()


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%dT%H:%M:%S", "dtype", "zone"])
def test_dates_become_numbers(frame, form):
    days = pd.Series(pd.date_range("2020-01-31", periods=ROWS, freq="D"))
    frame["when"] = {"dtype": days, "zone": days.dt.tz_localize("UTC")}.get(form)
    if form not in ("dtype", "zone"):
        frame["when"] = days.dt.strftime(form)
    table = read_table(frame, target="y")
    X = dict(zip(table.columns, restored(table).T, strict=True))
    np.testing.assert_allclose(np.diff(X["when_days"]), 1)
    assert X["when_days"][0] == 18292  # days from 1970-01-01 to 2020-01-31
    np.testing.assert_array_equal(X["when_month"], days.dt.month)
    assert "when_days" in done(table, "when")["date"]


def test_seconds_are_not_lost(frame):
    frame["when"] = pd.date_range("2024-05-01", periods=ROWS, freq="s")
    table = read_table(frame, target="y")
    seconds = restored(table)[:, table.columns.index("when_days")] * 86400
    np.testing.assert_allclose(np.diff(seconds), 1, atol=1e-3)


def test_kinds_of_numbers(frame):
    frame["true"] = frame.a > 0
    frame["nullable"] = pd.array(np.arange(ROWS) % 7, dtype="Int64")
    frame["wait"] = pd.to_timedelta(np.arange(ROWS) ** 2, unit="s")
    frame["mixed"] = pd.Series([2**70, 1.5] * (ROWS // 2), dtype=object)
    table = read_table(frame, target="y")
    assert table.columns == ["a", "b", "true", "nullable", "wait", "mixed"]
    assert table.X.dtype == np.float64
    np.testing.assert_array_equal(restored(table)[:3, 4:], [[0, 2.0**70], [1, 1.5], [4, 2.0**70]])


def test_a_leak_is_named(frame):
    frame["copy"] = 3 * frame.y + 1
    assert any("'copy'" in note and "1.00000" in note for note in read_table(frame, target="y").notes)
    labels = pd.DataFrame({"a": frame.a, "code": np.arange(ROWS) % 3 == 1, "y": np.array(list("pqr") * (ROWS // 3))})
    assert any("'code'" in note for note in read_table(labels, target="y").notes)
    assert not any("correlation" in note for note in read_table(frame[["a", "b", "y"]], target="y").notes)


def test_repeated_rows_are_counted():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), np.arange(60) % 2
    assert read_table((X, y)).duplicate_rows == 0
    table = read_table((np.r_[X, X[:7]], np.r_[y, y[:7]]))
    assert table.duplicate_rows == 7
    assert any("7 rows repeat" in note for note in table.notes)


# ------------------------------------------------------------------------------------------- missing values


def test_missing_values_are_refused_with_their_place(frame):
    frame.loc[[4, 11], "a"] = np.nan
    frame.loc[7, "b"] = -np.inf
    words = ("2 missing and 1 infinite", "'a' (2), 'b' (1)", "data rows 5, 8, 12", "--impute")
    refused(lambda: read_table(frame, target="y"), *words)


def test_imputation_uses_training_rows_only(frame):
    frame.loc[[4, 11, 30, 31, 32, 33], "a"] = np.nan
    frame.loc[7, "b"] = np.inf
    table = read_table(frame, target="y", impute=True)
    X = restored(table)
    assert np.isfinite(X).all()
    median = frame.a.iloc[table.train_rows].median()
    np.testing.assert_array_equal(X[[4, 11, 30], 0], median)
    assert median != frame.a.median()
    np.testing.assert_array_equal(X[:, table.columns.index("missing a")], frame.a.isna())
    assert "6 missing values" in done(table, "a")["imputed"]
    assert "data row 8" in done(table, "b")["imputed"]


def test_faulty_cells_among_numbers_are_missing_values(frame):
    frame["a"] = frame.a.map("{:.3f}".format)
    frame.loc[9, "a"] = "see below"
    refused(lambda: read_table(frame, target="y"), "1 missing", "'see below'", "data row 10", "--impute")
    assert np.isfinite(restored(read_table(frame, target="y", impute=True))).all()


def test_rows_without_a_target(frame):
    frame.loc[[2, 5], "y"] = [np.nan, np.inf]
    refused(lambda: read_table(frame, target="y"), "target 'y'", "2 of 120", "data rows 3, 6", "--impute")
    table = read_table(frame, target="y", impute=True)
    rows = np.concatenate([table.train_rows, table.test_rows])
    assert len(rows) == ROWS - 2
    assert not {2, 5} & set(rows)
    assert (table.total_rows, any("without a target" in note for note in table.notes)) == (ROWS, True)


def test_empty_rows_are_left_out(frame):
    frame.loc[3] = np.nan
    table = read_table(frame, target="y")
    assert 3 not in set(table.train_rows) | set(table.test_rows)
    assert any("1 empty rows" in note for note in table.notes)


def test_rows_of_the_held_out_file_are_named_as_its_own(frame):
    other = frame.head(30).copy()
    other.loc[3, "a"] = np.nan
    refused(lambda: read_table(frame, target="y", test=other), "data row 4 of the held-out")


# --------------------------------------------------------------------------------------------------- target


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (np.arange(ROWS) % 3, "classification"),
        (np.arange(ROWS) % 2 + 0.0, "classification"),
        (np.arange(ROWS) % 2 == 0, "classification"),
        (np.where(np.arange(ROWS) % 2, "no", "yes"), "classification"),
        (pd.Categorical(np.arange(ROWS) % 4), "classification"),
        (np.arange(ROWS) % 2 + 0.5, "regression"),
        (np.arange(ROWS) // 2, "regression"),
        (np.arange(ROWS) % 30, "regression"),
        (np.linspace(0, 1, ROWS), "regression"),
        ([f"{k / 7:.3f}" for k in range(ROWS)], "regression"),
    ],
)
def test_the_task_is_detected_and_said(frame, values, task):
    frame["y"] = values
    table = read_table(frame, target="y")
    assert table.task == task
    assert (table.classes is None) == (task == "regression")
    assert table.y.dtype == (np.int64 if table.classes else np.float64)
    assert any(task in note for note in table.notes)


def test_balanced_whole_numbers_from_zero_are_classes(frame):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(26 * 30, 2))
    assert len(read_table((X, np.arange(len(X)) % 26)).classes or []) == 26
    assert read_table((X, rng.poisson(12, len(X)))).task == "regression"


def test_the_task_can_be_chosen(frame):
    frame["y"] = np.arange(ROWS) % 3
    assert read_table(frame, target="y", task="regression").y.dtype == np.float64
    frame["y"] = np.arange(ROWS) // 4
    assert len(read_table(frame, target="y", task="classification", test=0.3).classes or []) == 30
    frame["y"] = np.array(list("pq") * (ROWS // 2))
    refused(lambda: read_table(frame, target="y", task="regression"), "labels, not numbers")


def test_labels_come_back_as_they_were(frame):
    for labels in ([-1, 1], ["nay", "yea"], [False, True]):
        frame["y"] = np.array(labels)[np.arange(ROWS) % 2]
        table = read_table(frame, target="y")
        assert table.classes == labels
        back = np.array(table.classes)[np.concatenate([table.y, table.y_test])]
        assert list(back) == list(frame.y.iloc[np.concatenate([table.train_rows, table.test_rows])])


def test_targets_that_cannot_be_forecast(frame):
    def having(values):
        return lambda: read_table(frame.assign(y=values), target="y")

    refused(having(3.25), "constant", "3.25")
    refused(having(7), "one class only", "'7'")
    refused(having("only"), "one class only", "'only'")
    refused(having(["alone", *["p", "q"] * 59, "p"]), "class 'alone'", "one row only", "data row 1")
    rare = frame.assign(y=["rare", "rare", *["p", "q"] * 59])
    refused(lambda: read_table(rare, target="y", test=0.9), "class 'rare'", "no training row", "--test")
    refused(having([f"n{k}" for k in range(ROWS)]), "different labels", "--target")
    refused(having(pd.date_range("2020", periods=ROWS)), "dates", "--target")
    refused(having([[k] for k in range(ROWS)]), "lists")
    refused(having(["x", *[f"{k / 3:.2f}" for k in range(ROWS - 1)]]), "1 cell is no number: 'x' (data row 1)")


def test_too_few_rows_and_columns(frame):
    refused(lambda: read_table(frame.head(7), target="y"), "7 usable rows", "at least 10")
    refused(lambda: read_table(frame.head(39), target="y"), "39 rows", "30 are held out", "--test FILE")
    assert len(read_table(frame.head(40), target="y").X_test) == 30
    assert read_table(frame.head(10), target="y", test=frame.tail(5)).n == 10
    refused(lambda: read_table(frame[["y"]].assign(k=1), target="y"), "no column is left", "constant")
    refused(lambda: read_table(frame.head(0), target="y"), "empty")
    twice = frame.set_axis(["a", "a", "y"], axis=1)
    refused(lambda: read_table(twice, target="y"), "2 columns are called 'a'")


# ----------------------------------------------------------------------------------------------- properties


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(
    kinds=st.lists(
        st.sampled_from(["normal", "integer", "flag", "level", "date", "constant", "gap", "endless", "text", "none"]),
        min_size=1,
        max_size=5,
    ),
    target=st.sampled_from(["normal", "level", "flag", "integer"]),
    rows=st.integers(1, 200),
    seed=st.integers(0, 999),
    impute=st.booleans(),
)
def test_any_frame_gives_a_finite_table_or_a_sentence(kinds, target, rows, seed, impute):
    rng = np.random.default_rng(seed)

    def column(kind):
        normal = rng.normal(size=rows)
        return {
            "normal": normal,
            "integer": rng.integers(0, 1000, rows),
            "flag": normal > 0,
            "level": rng.choice(["p", "q", "r", "?"], rows),
            "date": [f"2024-0{k}-11" for k in rng.integers(1, 9, rows)],
            "constant": np.ones(rows),
            "gap": np.where(normal > 1, np.nan, normal),
            "endless": np.where(normal > 1, np.inf, normal),
            "text": [f"word {k}" for k in rng.integers(0, 99, rows)],
            "none": [None] * rows,
        }[kind]

    frame = pd.DataFrame({f"{k}{kind}": column(kind) for k, kind in enumerate(kinds)} | {"y": column(target)})
    try:
        table = read_table(frame, target="y", impute=impute, seed=seed)
    except InputError as error:
        sentence = str(error)
    else:
        check_whole(table, frame)
        return
    assert sentence
    assert "\n" not in sentence


def check_whole(table, frame):
    assert np.isfinite(table.X).all()
    assert np.isfinite(table.X_test).all()
    assert table.X.shape == (table.n, len(table.columns))
    assert len(table.X_test) >= 30
    assert table.n + len(table.X_test) <= len(frame)
    assert {r["column"] for r in table.cleaning} >= set(frame.columns.drop("y"))


def test_groups_are_held_out_whole_and_are_no_feature():
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 40, 400)
    frame = pd.DataFrame(
        {"a": rng.normal(size=400), "patient": [f"p{k}" for k in patient], "y": rng.integers(0, 2, 400)}
    )
    table = read_table(frame, target="y", groups="patient")
    assert table.columns == ["a"]
    held, kept = set(patient[table.test_rows]), set(patient[table.train_rows])
    assert not held & kept
    assert 40 <= len(table.test_rows) <= 120
    assert len(np.unique(table.groups)) == len(kept)
    assert any("40 groups of column 'patient'" in note for note in table.notes)
    with pytest.raises(InputError, match="column of groups 'patiens' is not in the table; did you mean 'patient'"):
        read_table(frame, target="y", groups="patiens")
    with pytest.raises(InputError, match="is the target"):
        read_table(frame, target="y", groups="y")
    with pytest.raises(InputError, match="has 3 groups"):
        read_table(frame.assign(patient=patient % 3), target="y", groups="patient")


def test_groups_in_regression():
    rng = np.random.default_rng(1)
    site = np.repeat(np.arange(20), 20)
    frame = pd.DataFrame({"a": rng.normal(size=400), "site": site, "y": rng.normal(size=400)})
    table = read_table(frame, target="y", groups="site", test=0.25)
    assert len(table.test_rows) == 100
    assert not set(site[table.test_rows]) & set(site[table.train_rows])
