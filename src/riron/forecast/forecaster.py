"""The forecast of one table, part by part: reading once, then any curve, advice, learning curve or verification."""

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError
from ..lab.progress import Show
from ..theory.least_squares_forecast import LOSSES
from ..theory.spectrum import Spectrum, check_setting
from .advising.advice import BATCHES, Advice, advise
from .advising.schedule_files import read_schedule
from .advising.schedules import Schedule, best_schedule
from .breaking_rows import breaking_rows
from .choices import check_memory, choose_batch, choose_loss, closure
from .closure_error import with_closure_error
from .edge_table import edge_batches, edge_table
from .features import make_features
from .more_data.classification_error import classification_curve
from .more_data.named_estimators import named_estimator
from .more_data.sample_size import learning_curve
from .networks.jax_networks import JaxNetwork
from .networks.tangent import kernel_drift
from .options import LEAST_SEEDS, SCHEDULES, SEARCHED, Options
from .tables.reading import read_table
from .training import Training, number_of_steps, steps_per_epoch, targets
from .verification import Verification, line_record, prove, seconds_of_one_run


class Forecaster:
    """Forecast how SGD will go on a table, before any training.

        forecaster = Forecaster(features="relu:300", momentum=0.9).fit("data.csv", target="price")
        forecaster.stability_edge_, forecaster.curve(), forecaster.advice().best, forecaster.verify()

    Args:
      progress: True, or a function (done, total, label).
      **options: see `riron.forecast.options.Options`, all but data and target.

    Attributes (after `fit`):
      stability_edge_: largest step size that converges in mean square, by batch size; None for the logistic and the
        softmax loss, which have none.
      cleaning_: what was done to each column: dicts of column, action, detail.
      notes_: sentences on what was assumed.
      table_, features_, spectrum_: the rows as read, as SGD sees them, and in their eigenbasis.
      batch_, loss_: those used.
      seconds_: time of each part.
    """

    def __init__(self, *, progress: Show = None, **options: Any):
        unknown = {"data", "target", "verify"} & options.keys()
        if unknown:
            raise InputError(f"{sorted(unknown)[0]} is no option of a Forecaster", do="pass it to fit or verify")
        self.options = Options(data=None, **options)
        self.progress = progress

    def fit(self, data: Any, target: str | None = None) -> "Forecaster":
        """Read and clean the table, make the features, their spectrum, and the stability edge.

        Args:
          data: a path, `sklearn:NAME`, a data frame or a pair (X, y); see `riron.forecast.read_table`.
          target: the column to predict.
        Returns: itself.
        Raises: InputError with what is wrong, where, and what to do.
        """
        self.options = options = replace(self.options, data=data, target=target)
        self.clock = Clock()
        with self.clock("reading"):
            self.table_ = table = read_table(
                data,
                target=target,
                test=options.test,
                seed=options.seed,
                decimal=options.decimal,  # type: ignore[arg-type]
                header=options.header,
                impute=options.impute,
                groups=options.groups,
            )
        self.cleaning_, self.notes_ = table.cleaning, list(table.notes)
        if isinstance(options.estimator, str):
            named_estimator(options.estimator, classes=table.classes is not None)  # refused before any work
        self.batch_ = choose_batch(options.batch, table.n, self.notes_)
        self.loss_ = choose_loss(options.loss, table, self.notes_)
        with self.clock("features"):
            self.features_ = features = make_features(table, options.features, options.seed)
            self.notes_ += features.notes
        check_memory(features)
        Y, Y_test = targets(features.Y, self.loss_), targets(features.Y_test, self.loss_)
        self.arrays, self.model = (features.F, Y, features.F_test, Y_test), None
        tangent = features.tangent
        if tangent is not None and isinstance(tangent.network, JaxNetwork) and tangent.X_test is not None:
            # What is trained is the network itself, not its linearisation.
            self.arrays, self.model = (tangent.X, Y, tangent.X_test, Y_test), tangent.network.model
        with self.clock("spectrum"):
            self.spectrum_ = Spectrum.of(features.F, Y, features.F_test, Y_test)
        self.closure: tuple[str, int | None] = ("auto", None)
        self.edges, self.edge_at, self.stability_edge_ = None, {}, None
        if features.tangent is not None and self.loss_ != "square":
            raise InputError("a network is forecast for the square loss only", do="leave --loss out")
        if self.loss_ == "square":
            self.closure = closure(self.spectrum_, options.shuffle, self.notes_)
            with self.clock("stability_edge"):
                self._find_edges()
        self._advice: dict[float, Advice] = {}
        self._schedules: dict[tuple[float, int], Schedule] = {}
        return self

    def training(
        self, *, batch: int | None = None, step_size: float | None = None, epochs: float | None = None
    ) -> Training:
        """The way of training that is forecast: what the options say, changed by the arguments.

        A step size that nobody gave is the best for the batch that the advice finds within the budget.
        """
        options, n = self.options, self.table_.n
        batch = self.batch_ if batch is None else batch
        epochs = options.epochs if epochs is None else epochs
        check_setting(self.spectrum_, batch=batch, ridge=options.ridge)
        steps = number_of_steps(n, batch, epochs, options.shuffle)
        schedule: str | np.ndarray = options.schedule
        if options.schedule == SEARCHED:
            schedule = self.schedule(epochs, batch=batch).step_sizes
            step_size = float(schedule.max())
        elif options.schedule not in SCHEDULES:
            schedule = read_schedule(options.schedule)
            if len(schedule) < steps:
                raise InputError(
                    f"the schedule '{options.schedule}' has {len(schedule)} step sizes for a run of {steps} steps",
                    do=f"use --epochs {len(schedule) * epochs / steps:.3g} at most, or a longer file",
                )
            step_size = float(schedule[:steps].max())
        elif step_size is None:
            step_size = options.step_size
        if options.warmup >= steps:
            raise InputError(f"warmup={options.warmup} is not shorter than the run of {steps} steps")
        start = options.average_from
        training = Training(
            batch=batch,
            step_size=1.0 if step_size is None else step_size,
            steps=steps,
            loss=self.loss_,
            shuffle=options.shuffle,
            ridge=options.ridge,
            momentum=options.momentum,
            nesterov=options.nesterov,
            schedule=schedule,
            warmup=options.warmup,
            average_from=None if start is None else round(start * steps_per_epoch(n, batch, options.shuffle)),
        )
        return training if step_size is not None else replace(training, step_size=self._best_step(training))

    def curve(
        self,
        training: Training | None = None,
        *,
        batch: int | None = None,
        step_size: float | None = None,
        epochs: float | None = None,
    ) -> xr.Dataset:
        """The training curve: expected losses and error rate over `step`, with their spread between runs.

        Returns: Dataset with coordinates step and epoch: train_loss, test_loss, `*_sd`, `*_quantile`, test_error,
          `*_stderr` (numerical error) and `*_tolerance` (relative error of the closure).
        """
        training = training or self.training(batch=batch, step_size=step_size, epochs=epochs)
        covariance, rows = self.closure
        with self.clock("curve"), np.errstate(all="ignore"):  # above the edge numbers overflow, as they should
            record = line_record(training.steps)
            line = training.forecast(self.spectrum_, record, covariance=covariance, rows=rows)
            again = partial(training.forecast, self.spectrum_, record, errors=False)
            line = with_closure_error(line, again, covariance, rows, self.table_.n)
        per_epoch = steps_per_epoch(self.table_.n, training.batch, training.shuffle)
        line = line.assign_coords(epoch=("step", line.step.values / per_epoch))
        return line if self.features_.tangent is None else self._with_drift(line, training)

    def _with_drift(self, line: xr.Dataset, training: Training) -> xr.Dataset:
        """The curve with the error of the linearisation, from a short run of the network itself."""
        assert self.features_.tangent is not None
        with self.clock("probe_of_the_network"):
            drift = kernel_drift(
                self.features_.tangent,
                self.arrays[1],
                batch=training.batch,
                step_size=training.step_size,
                horizon=training.steps,
                momentum=training.momentum,
                nesterov=training.nesterov,
                seed=self.options.seed,
            )
        names = [f"{name}_tolerance" for name in LOSSES]
        stated = {name: line.get(name, xr.zeros_like(line.train_loss)) + drift.tolerance for name in names}
        return line.assign(stated).assign_attrs(drift=drift.sentence)

    def advice(self, budget: float | None = None) -> Advice:
        """The settings that the held-out rows cannot tell from the best for a budget (epochs; default the options')."""
        options = self.options
        budget = budget or options.budget or options.epochs
        if budget not in self._advice:
            covariance, rows = self.closure
            tried = sorted({*(b for b in BATCHES if b <= max(1, self.table_.n // 4)), self.batch_})
            with self.clock("advice"):
                self._advice[budget] = advise(
                    self.spectrum_,
                    budget_epochs=budget,
                    edges={b: self.edge_at[b].step_size for b in tried if b in self.edge_at},
                    batches=tried,
                    loss=self.loss_,
                    shuffle=options.shuffle,
                    ridge=options.ridge,
                    momentum=options.momentum,
                    nesterov=options.nesterov,
                    covariance=covariance,
                    rows=rows,
                    seed=options.seed,
                    progress=self.progress,
                )
        return self._advice[budget]

    def schedule(self, budget: float | None = None, *, batch: int | None = None) -> Schedule:
        """The step sizes of least forecast held-out loss for a budget, found by differentiating the forecast.

        Args:
          budget: epochs; default the options'.
          batch: rows per step; default the one used.
        Returns: Schedule, with the best constant, linear and cosine ones beside it.
        Raises: InputError for a loss or an optimiser other than plain SGD on the squared loss.
        """
        options = self.options
        key = (budget or options.budget or options.epochs, batch or self.batch_)
        if self.loss_ != "square" or options.momentum:
            raise InputError(
                "the best schedule is searched for plain SGD on the squared loss only",
                do="leave --loss and --momentum out, or give --step-size",
            )
        if key not in self._schedules:
            edge = self.edge_at.get(key[1])
            with self.clock("schedule"):
                self._schedules[key] = best_schedule(
                    self.spectrum_,
                    batch=key[1],
                    budget_epochs=key[0],
                    sampling=options.shuffle,
                    ridge=options.ridge,
                    edge=None if edge is None else edge.step_size,
                    seed=options.seed,
                )
        return self._schedules[key]

    def learning_curve(self, *, estimator: Any = None, **options: Any) -> xr.Dataset:
        """How much more data will help.

        For tuned ridge regression; for tuned logistic regression if the loss is logistic; or for an estimator.

        Args:
          estimator: see `riron.forecast.learning_curve`; default the options'.
          **options: as of `riron.forecast.learning_curve`: sizes, level, draws, ...
        """
        estimator = self.options.estimator if estimator is None else estimator
        X = self.features_.F[:, :-1]  # the constant: these models have their own
        common = {"seed": self.options.seed, "progress": self.progress, **options}
        with self.clock("learning_curve"):
            if estimator is None and self.loss_ == "logistic" and self.table_.groups is None:
                return classification_curve(X, self.features_.Y, **common)
            return learning_curve(X, self._outcome(estimator), estimator=estimator, groups=self.table_.groups, **common)

    def _outcome(self, estimator: Any) -> np.ndarray:
        """What an estimator is to learn: labels for a classifier, else the scaled target."""
        return self.features_.Y if estimator is None or self.table_.classes is None else self.table_.y.astype(str)

    def breaking_rows(self, *, batch: int | None = None, **options: Any) -> xr.Dataset:
        """The rows that set the stability edge, and what training gains without them, by place in the table.

        Args:
          batch: rows per step; default the one used.
          **options: as of `riron.forecast.breaking_rows`: counts, speed, ...
        Returns: Dataset over `row` (places in the table, from 0) and `removed`.
        Raises: InputError for a loss that has no edge.
        """
        batch = self.batch_ if batch is None else batch
        if self.loss_ != "square":
            raise InputError(f"the {self.loss_} loss has no stability edge", do="use the square loss")
        asked = self.options
        optimiser = {"ridge": asked.ridge, "momentum": asked.momentum, "nesterov": asked.nesterov}
        found = breaking_rows(self.spectrum_, batch=batch, edge=self.edge_at.get(batch), **optimiser, **options)
        return found.assign_coords(row=self.table_.train_rows)

    def verify(
        self, seeds: int = LEAST_SEEDS * 2, *, training: Training | None = None, line: xr.Dataset | None = None
    ) -> Verification:
        """Train from scratch many times and judge whether the mean losses are the forecast ones.

        Args:
          seeds: number of runs, at least 16.
          training: what is trained; default as the options say.
          line: its forecast, if it is at hand.
        Returns: Verification; see `riron.forecast.verify`.
        """
        training = training or self.training()
        diverges = self._diverges(training)
        line = None if diverges else self.curve(training) if line is None else line
        covariance, rows = self.closure
        with self.clock("verify"), np.errstate(all="ignore"):
            return prove(
                training,
                self.arrays,
                self.spectrum_,
                line,
                seeds=seeds,
                seed=self.options.seed,
                covariance=covariance,
                rows=rows,
                model=self.model,
                progress=self.progress,
            )

    def seconds_of_one_run(self, training: Training) -> float:
        """Seconds that one compiled training run takes on this machine."""
        with np.errstate(all="ignore"):
            return seconds_of_one_run(training, self.arrays, self.model)

    def _find_edges(self) -> None:
        options = self.options
        batches = edge_batches(self.spectrum_, self.batch_, BATCHES)
        self.edges, self.edge_at = edge_table(
            self.spectrum_,
            batches,
            ridge=options.ridge,
            momentum=options.momentum,
            nesterov=options.nesterov,
            progress=self.progress,
        )
        self.stability_edge_ = {b: edge.step_size for b, edge in self.edge_at.items()}

    def _best_step(self, training: Training) -> float:
        """The best step size (the best peak of a schedule) that is forecast for this batch and length."""
        if training.schedule != "constant" and self.loss_ == "square" and not training.momentum:
            epochs = training.steps / steps_per_epoch(self.table_.n, training.batch, training.shuffle)
            return self.schedule(epochs, batch=training.batch).forecasts[str(training.schedule)]["peak"]
        known = self.advice().best_step
        if training.batch in known:
            return known[training.batch]
        raise InputError(f"the advice has no step size for batch {training.batch}", do="give one")

    def _diverges(self, training: Training) -> bool:
        """Whether a constant step size lies above the stability edge."""
        edge = (self.stability_edge_ or {}).get(training.batch, np.inf)
        return isinstance(training.step_sizes, float | int) and training.step_size > edge


class Clock:
    """Seconds by part; what is done inside another part counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open = 0

    @contextmanager
    def __call__(self, name: str):
        started = time.perf_counter()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @property
    def total(self) -> float:
        return sum(self.seconds.values())
