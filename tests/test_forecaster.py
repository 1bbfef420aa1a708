"""`riron.forecast.Forecaster`, and what people really train from end to end: options, forecast, verification."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from riron.errors import InputError
from riron.forecast import Forecaster, forecast_table, read_schedule, verification
from riron.forecast.training import Training, number_of_steps, steps_per_epoch, targets
from riron.lab.files import as_json
from riron.lab.verdict import judge


@pytest.fixture(scope="module")
def tables():
    """A numeric target, two classes, and three."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((150, 4)) * [1, 1, 2, 0.5]
    score = X @ [1.0, -0.5, 0.2, 0.1] + 0.7 * rng.standard_normal(150)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(group=np.repeat(np.arange(30), 5))
    return {
        "number": frame.assign(y=100 + 20 * score),
        "two": frame.assign(y=np.where(score > 0, "yes", "no")),
        "three": frame.assign(y=np.digitize(score, [-0.5, 0.5]).astype(str)),
    }


TRAININGS = {
    "momentum, averaged": (
        "number",
        {"momentum": 0.8, "average_from": 2, "shuffle": "with-replacement", "step_size": 0.01},
    ),
    "Nesterov, shuffled, warm-up and cosine": (
        "number",
        {"momentum": 0.7, "nesterov": True, "schedule": "cosine", "warmup": 5, "step_size": 0.02},
    ),
    "logistic, shuffled, linear": ("two", {"loss": "logistic", "schedule": "linear", "step_size": 0.1}),
    "softmax": ("three", {"loss": "softmax", "shuffle": "with-replacement", "step_size": 0.05}),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_runs_prove_the_line_and_refute_a_wrong_one(name, tables):
    data, options = TRAININGS[name]
    frame = tables[data].drop(columns="group")
    made = Forecaster(batch=8, epochs=4, seed=1, **options).fit(frame, "y")
    seen = made.verify(128)
    assert seen.report["verdict"] == "holds", seen.report["reason"]
    assert seen.report["mutations"] == {"step_size x 0.8": "fails"}
    for loss in ("train_loss", "test_loss"):
        wrong = seen.line.assign({loss: seen.line[loss] * 1.2})
        assert judge(verification.CLAIMS, {1: seen.dots}, {1: wrong})["verdict"] == "fails"


def test_losses_without_an_edge_give_the_best_step_in_its_place(tables):
    found = forecast_table(tables["two"].drop(columns="group"), target="y", loss="logistic", batch=8, epochs=3)
    whole = json.loads(as_json(found.to_dict()))
    assert whole["stability_edge"] is None
    assert whole["edge"] is None
    assert whole["best_step"]["8"] == whole["parameters"]["step_size"]
    assert all(setting["fraction_of_edge"] is None for setting in whole["advice"])
    text = str(found)
    assert "no stability edge" in text
    assert "/ edge" not in text
    assert len(found.plot().axes) >= 4
    assert {"test_error", "test_error_low"} & set(found.learning_curve)


def test_the_best_schedule_is_searched_written_and_read_again(tables, tmp_path):
    frame = tables["number"].drop(columns="group")
    out = tmp_path / "out"
    found = forecast_table(frame, target="y", schedule="best", batch=8, epochs=2, out=out)
    steps = read_schedule(out / "schedule.csv")
    assert len(steps) == found.steps
    np.testing.assert_array_equal(steps, found.training.step_sizes)
    assert "best schedule found" in str(found) or "No schedule was found" in str(found)
    again = Forecaster(schedule=str(out / "schedule.csv"), batch=8, epochs=2).fit(frame, "y").training()
    np.testing.assert_array_equal(again.step_sizes, steps)
    with pytest.raises(InputError, match="--epochs 2 at most"):
        Forecaster(schedule=str(out / "schedule.csv"), batch=8, epochs=5).fit(frame, "y").training()


def test_a_forecaster_answers_part_by_part(tables):
    made = Forecaster(batch=8, epochs=3, groups="group").fit(tables["number"], "y")
    assert not set(made.table_.groups) & set(tables["number"].group[made.table_.test_rows])  # held out whole
    assert all(record["column"] != "y" for record in made.cleaning_)
    edge = made.stability_edge_[8]
    assert made.training().step_size < edge
    calm, wild = made.curve(step_size=0.05 * edge), made.curve(step_size=1.5 * edge)
    assert calm.train_loss[-1] < calm.train_loss[0]
    assert wild.train_loss[-1] > calm.train_loss[-1]
    assert calm.train_loss_quantile.dims == ("step", "quantile")
    assert (calm.train_loss_quantile.diff("quantile").isel(step=-1) > 0).all()
    assert made.advice().best["batch"] in made.advice().best_step
    assert made.advice() is made.advice()  # nothing is computed twice
    rows = made.breaking_rows(counts=[1])
    assert set(rows.row.values) == set(made.table_.train_rows)
    ahead = made.learning_curve(estimator="knn")
    assert isinstance(ahead, xr.Dataset)
    assert ahead.test_loss.dims == ("n_samples",)
    assert made.seconds_of_one_run(made.training()) > 0


def test_what_is_no_option_is_refused(tables):
    with pytest.raises(InputError, match="pass it to fit or verify"):
        Forecaster(verify=32)
    with pytest.raises(TypeError):
        Forecaster(learning_rate=0.1)
    logistic = Forecaster(loss="logistic", batch=8, epochs=2).fit(tables["two"].drop(columns="group"), "y")
    with pytest.raises(InputError, match="no stability edge"):
        logistic.breaking_rows()
    with pytest.raises(InputError, match="plain SGD"):
        logistic.schedule()
    with pytest.raises(InputError, match="two classes and 'y' has 3"):
        Forecaster(loss="logistic").fit(tables["three"].drop(columns="group"), "y")


def test_a_training_counts_its_steps_as_the_runs_do():
    assert steps_per_epoch(100, 8, "epochs") == 12
    assert steps_per_epoch(100, 8, "with-replacement") == 12.5
    assert number_of_steps(100, 8, 2, "with-replacement") == 25
    cosine = Training(batch=1, step_size=0.5, steps=10, schedule="cosine", warmup=2)
    assert len(np.asarray(cosine.step_sizes)) == 10
    assert np.max(cosine.step_sizes) == pytest.approx(0.5)
    np.testing.assert_allclose(cosine.scaled(0.5).step_sizes, 0.5 * np.asarray(cosine.step_sizes))
    onehot = np.eye(2)[[0, 1, 1]]
    assert targets(onehot, "logistic")[:, 0].tolist() == [-1, 1, 1]
    assert targets(onehot, "softmax") is onehot
