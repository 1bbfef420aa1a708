"""The main job from end to end: a table in, a forecast out; every step is one function of this room."""

import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import xarray as xr

from ..lab.files import as_json, new_folder
from ..lab.progress import Show
from ..theory.least_squares_forecast import least_squares_sgd
from ..theory.spectrum import Spectrum
from .advice import BATCHES, advise, steps_per_epoch
from .choices import (
    check_memory,
    choose_batch,
    choose_step_size,
    closure,
    describe_data,
    weak_points,
    with_stated_error,
)
from .edge_table import describe_edge, edge_batches, edge_table
from .features import Features, make_features
from .options import Options
from .result import Forecast
from .sample_size import learning_curve
from .tables.reading import read_table
from .verification import line_record, number_of_steps, seconds_of_one_run, verify


def forecast_table(data: Any, *, out=None, force: bool = False, progress: Show = None, **options: Any) -> Forecast:
    """Forecast how SGD will go on a table, before any training.

    Args:
      data: a path, `sklearn:NAME`, a data frame or a pair (X, y); see `riron.forecast.read_table`.
      out: a folder to write forecast.json, forecast.nc, figure.png, figure.svg, report.html and cleaning.json into.
      force: write into `out` although it holds files.
      progress: True, or a function (done, total, label).
      **options: see `riron.forecast.options.Options`: target, features, batch, step_size, epochs, budget, ridge,
        shuffle, test, verify, impute, decimal, header, seed.
    Returns: Forecast, with `.curve`, `.advice`, `.learning_curve`, `.plot()` and `.save(folder)`.
    Raises: InputError with what is wrong, where, and what to do; nothing is written then.
    """
    asked = Options(data=data, **options)
    with nullcontext() if out is None else new_folder(out, force=force) as folder:
        found = compute(asked, progress)
        if folder is not None:
            from .writing import write

            write(found, folder)
    return found


def run(
    options: Options,
    *,
    out: str | None = None,
    force: bool = False,
    as_object: bool = False,
    quiet: bool = False,
    cache: bool = True,
    stdout: TextIO | None = None,
) -> int:
    """The command `riron forecast`: compute, write, print; returns the exit status.

    Args:
      options: what to forecast.
      out: the folder for results; without it only the picture is kept, in the user's cache folder.
      force: write into `out` although it holds files.
      as_object: print one JSON object on stdout and nothing else.
      quiet: no progress, and only the essential lines.
      cache: keep compiled functions on disk.
      stdout: where the result is printed.
    """
    from ..lab.compiling import use_persistent_cache
    from .summary import show
    from .writing import keep_picture, write

    if cache:
        use_persistent_cache()
    console: TextIO = stdout or sys.stdout
    with nullcontext() if out is None else new_folder(out, force=force) as folder:
        found = compute(options, not quiet)
        if folder is not None:
            write(found, folder)
    picture = Path(out) / "figure.png" if out is not None else None if as_object else keep_picture(found)
    if as_object:
        print(as_json(found.to_dict()), file=console)
    else:
        show(found, console, quiet=quiet, picture=picture, out=out)
    return found.status


def compute(options: Options, progress: Show = None) -> Forecast:
    """All parts of the forecast in their order; Ctrl-C during the verification keeps the forecast."""
    clock = Clock()
    with clock("reading"):
        table = read_table(
            options.data,
            target=options.target,
            test=options.test,
            seed=options.seed,
            decimal=options.decimal,  # type: ignore[arg-type]
            header=options.header,
            impute=options.impute,
        )
    notes = list(table.notes)
    batch = choose_batch(options.batch, table.n, notes)
    with clock("features"):
        features = make_features(table, options.features, options.seed)
        notes += features.notes
    check_memory(features)
    with clock("spectrum"):
        spectrum = Spectrum.of(features.F, features.Y, features.F_test, features.Y_test)
    covariance, rows = closure(spectrum, options.shuffle, notes)
    with clock("stability_edge"):
        batches = edge_batches(spectrum, batch, BATCHES)
        edges, at = edge_table(spectrum, batches, ridge=options.ridge, progress=progress)
    budget = options.budget or options.epochs
    common: dict[str, Any] = {"ridge": options.ridge, "covariance": covariance, "rows": rows}
    with clock("advice"):
        tried = {b: at[b].step_size for b in {*BATCHES, batch} if b in at}
        advice = advise(
            spectrum,
            budget_epochs=budget,
            edges=dict(sorted(tried.items())),
            shuffle=options.shuffle,
            seed=options.seed,
            progress=progress,
            **common,
        )
    step_size = choose_step_size(options.step_size, batch, advice, budget, notes)
    with clock("edge_at_setting"):
        edge = describe_edge(spectrum, at[batch], batch, step_size, options.ridge, table.train_rows)
    with clock("curve"):
        curve = forecast_curve(spectrum, options, batch, step_size, covariance, rows)
    with clock("learning_curve"):
        more_data = learning_curve(features.F[:, :-1], features.Y, seed=options.seed, progress=progress)
    found = Forecast(
        options=options,
        batch=batch,
        step_size=step_size,
        steps=int(curve.step[-1]),
        about=describe_data(table, features),
        edges=edges,
        edge=edge,
        curve=curve,
        advice=advice.settings,
        considered=advice.considered,
        learning_curve=more_data,
        cleaning=table.cleaning,
        notes=notes + weak_points(curve, edge, options.shuffle),
    )
    with np.errstate(all="ignore"):
        prove(found, features, spectrum, covariance, rows, clock, progress)
    found.seconds = {name: round(value, 3) for name, value in clock.seconds.items()}
    return found


def prove(found: Forecast, features: Features, spectrum, covariance, rows, clock: "Clock", progress) -> None:
    """Times one training run, and with `verify` trains many of them; an interruption leaves the forecast as it is."""
    options, arrays = found.options, (features.F, features.Y, features.F_test, features.Y_test)
    setting: dict[str, Any] = {"batch": found.batch, "step_size": found.step_size}
    setting |= {"shuffle": options.shuffle, "ridge": options.ridge}
    forecast_only = clock.total
    try:
        clock.seconds["one_training_run"] = seconds_of_one_run(*arrays, steps=found.steps, **setting)
        if options.verify is not None:
            with clock("verify"):
                found.verification = verify(
                    *arrays,
                    epochs=options.epochs,
                    seeds=options.verify,
                    seed=options.seed,
                    covariance=covariance,
                    rows=rows,
                    diverges=found.above_edge,
                    spectrum=spectrum,
                    line=found.curve,
                    progress=progress,
                    **setting,
                )
            found.interrupted = not found.verification.report["complete"]
    except KeyboardInterrupt:
        found.interrupted = True
        found.notes.append("Stopped before the verification had a first point; the forecast itself is complete.")
    clock.seconds["forecast"] = forecast_only


def forecast_curve(spectrum, options: Options, batch: int, step_size: float, covariance, rows) -> xr.Dataset:
    """The training curve over `step`, with the epoch beside it."""
    with np.errstate(all="ignore"):  # above the edge numbers overflow, as they should
        curve = least_squares_sgd(
            spectrum,
            batch=batch,
            step_size=step_size,
            record=line_record(number_of_steps(spectrum.n, batch, options.epochs, options.shuffle)),
            sampling=options.shuffle,
            ridge=options.ridge,
            covariance=covariance,
            rows=rows,
        )
    epochs = curve.step.values / steps_per_epoch(spectrum.n, batch, options.shuffle)
    return with_stated_error(curve.assign_coords(epoch=("step", epochs)), covariance, rows, len(spectrum.eigenvalues))


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str):
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - started

    @property
    def total(self) -> float:
        return sum(self.seconds.values())
