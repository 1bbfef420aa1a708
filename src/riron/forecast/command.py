"""The main job from end to end: a table in, a forecast out; every step is one function of this room."""

import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import xarray as xr

from ..errors import InputError
from ..lab import memory
from ..lab.files import as_json, new_folder
from ..lab.progress import Show
from ..theory.least_squares_forecast import least_squares_sgd
from ..theory.spectrum import Spectrum
from .advice import BATCHES, Advice, advise, steps_per_epoch
from .edge_table import describe_edge, edge_batches, edge_table
from .features import Features, make_features
from .learning_curve import learning_curve
from .options import USUAL_BATCH, Options
from .reading import read_table
from .result import Forecast
from .table import Table
from .verification import line_record, number_of_steps, seconds_of_one_run, verify

WORK = 2.5e9  # n p^2 above which a sample of rows stands for all in the noise
FEWEST_ROWS = 1000  # of that sample
COPIES = 8  # of the rows' contributions (rows x outputs x features) that the shuffled closure holds at once


def forecast_table(data: Any, *, out=None, force: bool = False, progress: Show = None, **options: Any) -> Forecast:
    """Forecast how SGD will go on a table, before any training.

    Args:
      data: a path, `sklearn:NAME`, a data frame or a pair (X, y); see `riron.forecast.reading.read_table`.
      out: a folder to write forecast.json, forecast.nc, figure.png, figure.svg, report.html and cleaning.json into.
      force: write into `out` although it holds files.
      progress: True, or a function (done, total, label).
      **options: see `riron.forecast.options.Options`: target, features, batch, step_size, epochs, budget, ridge, shuffle,
        test, verify, impute, decimal, header, seed.
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
      out: the folder for results; without it the picture goes into the user's cache folder, and nothing else is written.
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
    stdout = stdout or sys.stdout
    with nullcontext() if out is None else new_folder(out, force=force) as folder:
        found = compute(options, not quiet)
        if folder is not None:
            write(found, folder)
    picture = Path(out) / "figure.png" if out is not None else None if as_object else keep_picture(found)
    if as_object:
        print(as_json(found.to_dict()), file=stdout)
    else:
        show(found, stdout, quiet=quiet, picture=picture, out=out)
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
    common: dict[str, Any] = dict(ridge=options.ridge, covariance=covariance, rows=rows)
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
    prove(found, features, spectrum, covariance, rows, clock, progress)
    found.seconds = {name: round(value, 3) for name, value in clock.seconds.items()}
    return found


def prove(found: Forecast, features: Features, spectrum, covariance, rows, clock: "Clock", progress) -> None:
    """Times one training run, and with `verify` trains many of them; an interruption leaves the forecast as it is."""
    options, arrays = found.options, (features.F, features.Y, features.F_test, features.Y_test)
    setting = dict(batch=found.batch, step_size=found.step_size, shuffle=options.shuffle, ridge=options.ridge)
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
                    progress=progress,
                    **setting,
                )
            found.interrupted = not found.verification.report["complete"]
    except KeyboardInterrupt:
        found.interrupted = True
        found.notes.append("Stopped before the verification had a first point; the forecast itself is complete.")
    clock.seconds["forecast"] = forecast_only


def choose_batch(asked: int | None, n: int, notes: list[str]) -> int:
    """The batch size asked for, or the usual one."""
    if asked is None:
        if n < USUAL_BATCH:
            notes.append(f"The batch size is {n}, all training rows.")
        else:
            notes.append(
                f"The batch size is {USUAL_BATCH}, the usual default of training libraries; --batch changes it."
            )
        return min(USUAL_BATCH, n)
    if asked > n:
        raise InputError(f"batch={asked} is more than the {n} training rows", do=f"use at most {n}")
    return asked


def choose_step_size(asked: float | None, batch: int, advice: Advice, budget: float, notes: list[str]) -> float:
    """The step size asked for, or the one that the advice finds best for this batch size."""
    if asked is not None:
        return asked
    step_size = advice.best_step[batch]
    notes.append(f"The step size {step_size:.3g} is the best found for batch {batch} within {budget:g} epochs.")
    return step_size


def check_memory(features: Features) -> None:
    """Refuse, before any large matrix is made, what will not fit."""
    n, p = features.F.shape
    held = (n + len(features.F_test)) * p
    rank = min(n, p)
    need = 8 * (3 * held + 4 * rank**2)
    count = features.spec.partition(":")[0]
    do = (
        f"use fewer features, for example --features {count}:{max(1, p // 4)}"
        if ":" in features.spec
        else "use fewer rows"
    )
    memory.require(need, f"the forecast of {n} rows and {p} features", do=do)


def closure(spectrum: Spectrum, shuffle: str, notes: list[str]) -> tuple[str, int | None]:
    """How much of the covariance is carried, and how many rows stand for all: as much as time and memory allow."""
    n, p, outputs = spectrum.n, len(spectrum.eigenvalues), spectrum.outputs
    free = memory.budget()
    covariance, leading = "full", p
    if p > 2000 or 12 * 8 * p**2 > free:
        leading = int(min(500, np.sqrt(free / (12 * 8))))
        covariance = f"block:{leading}"
        notes.append(
            f"The covariance is full on the {leading} leading directions and diagonal on the other {p - leading} "
            "(a full one needs too much time or memory); held-out losses can be off by 1-2 % by this."
        )
    rows = n
    if n * leading**2 > WORK:
        rows = max(FEWEST_ROWS, int(WORK / 2 / leading**2))
    if shuffle == "epochs":
        rows = min(rows, int(free / (COPIES * 8 * outputs * p)))
    if rows >= n:
        return covariance, None
    if rows < min(n, 100):
        need = COPIES * 8 * outputs * p * min(n, 100)
        raise InputError(
            f"the shuffled forecast of {p} features and {outputs} outputs needs about {memory.amount(need)}",
            why=f"{memory.amount(free)} may be used",
            do="use --shuffle with-replacement, or fewer features",
        )
    notes.append(f"{rows} rows, the heaviest among them, stand for all {n} in the noise (an error of about 0.5 %).")
    return covariance, rows


def forecast_curve(spectrum, options: Options, batch: int, step_size: float, covariance, rows) -> xr.Dataset:
    """The training curve over `step`, with the epoch beside it."""
    steps = number_of_steps(spectrum.n, batch, options.epochs, options.shuffle)
    curve = least_squares_sgd(
        spectrum,
        batch=batch,
        step_size=step_size,
        record=line_record(steps),
        sampling=options.shuffle,
        ridge=options.ridge,
        covariance=covariance,
        rows=rows,
    )
    return curve.assign_coords(epoch=("step", curve.step.values / steps_per_epoch(spectrum.n, batch, options.shuffle)))


def describe_data(table: Table, features: Features) -> dict[str, Any]:
    """The table in numbers."""
    baseline = None
    if table.classes is not None:  # of always naming the class that is commonest among the training rows
        baseline = float(np.mean(table.y_test != np.bincount(table.y).argmax()))
    return {
        "source": table.source,
        "target": table.target,
        "task": table.task,
        "classes": table.classes,
        "n": table.n,
        "n_test": len(table.X_test),
        "columns": len(table.columns),
        "features": features.F.shape[1],
        "feature_map": features.spec,
        "target_mean": float(features.target_mean[0]) if table.classes is None else None,
        "target_scale": float(features.target_scale[0]) if table.classes is None else None,
        "baseline_error": baseline,
        "duplicate_rows": table.duplicate_rows,
    }


def weak_points(curve: xr.Dataset, edge: dict[str, Any], shuffle: str) -> list[str]:
    """Where this forecast is not to be trusted to the last per cent, said beforehand."""
    said = []
    if "growth_factor" in edge:
        said.append(
            f"The step size is {edge['fraction']:.3g} times the stability edge: the mean loss doubles every "
            f"{edge['doubling_steps']:.3g} steps in the long run, carried by rare runs near the edge."
        )
        if shuffle == "epochs":
            said.append(
                "Edge and growth are those of batches drawn with replacement; shuffled epochs meet a heavy row only once an "
                "epoch, and single runs can last much longer than the mean (--shuffle with-replacement to compare)."
            )
        return said
    stated = [float(curve[name].max()) for name in ("train_loss_tolerance", "test_loss_tolerance") if name in curve]
    if stated and max(stated) >= 0.02:
        said.append(
            f"Here the theory of shuffled epochs is an approximation that can be off by {100 * max(stated):.0f} % "
            "(steps this large visit heavy rows too seldom); the band is widened by it."
        )
    return said


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
