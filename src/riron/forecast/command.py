"""The main job from end to end: a table in, a forecast out; every step is one function of this room."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..lab.files import as_json, new_folder
from ..lab.progress import Show
from .choices import describe_data, weak_points
from .edge_table import describe_edge
from .forecaster import Forecaster
from .options import SCHEDULES, SEARCHED, Options
from .result import Forecast
from .sentences import schedule_sentence
from .training import Training


def forecast_table(data: Any, *, out=None, force: bool = False, progress: Show = None, **options: Any) -> Forecast:
    """Forecast how SGD will go on a table, before any training.

    Args:
      data: a path, `sklearn:NAME`, a data frame or a pair (X, y); see `riron.forecast.read_table`.
      out: a folder to write forecast.json, forecast.nc, figure.png, figure.svg, report.html and cleaning.json into.
      force: write into `out` although it holds files.
      progress: True, or a function (done, total, label).
      **options: see `riron.forecast.options.Options`: target, features, loss, batch, step_size, epochs, verify, ...
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
    made = Forecaster(progress=progress, **without(options, "data", "target", "verify"))
    made.fit(options.data, options.target)
    advice = made.advice()
    training = made.training()
    notes = made.notes_ + choice_of_step(made, training)
    edge = heavy = None
    if made.edges is not None:
        with made.clock("edge_at_setting"):
            edge, heavy = describe_edge(
                made.spectrum_,
                made.edge_at[training.batch],
                training.batch,
                training.step_size,
                options.ridge,
                made.table_.train_rows,
                momentum=options.momentum,
                nesterov=options.nesterov,
            )
        if not np.isscalar(training.step_sizes):  # a schedule may be above the edge for a while
            edge = {k: v for k, v in edge.items() if k not in ("growth_factor", "doubling_steps")}
    curve = made.curve(training)
    found = Forecast(
        options=options,
        training=training,
        about=describe_data(made.table_, made.features_),
        edges=made.edges,
        edge=edge,
        heavy_rows=heavy,
        curve=curve,
        advice=advice.settings,
        best_step=advice.best_step,
        considered=advice.considered,
        learning_curve=made.learning_curve(),
        cleaning=made.cleaning_,
        notes=[*notes, *filter(None, map(curve.attrs.get, ("closure", "drift"))), *weak_points(curve, edge, training)],
    )
    prove(found, made)
    found.seconds = {name: round(value, 3) for name, value in made.clock.seconds.items()}
    return found


def prove(found: Forecast, made: Forecaster) -> None:
    """Times one training run, and with `verify` trains many of them; an interruption leaves the forecast as it is."""
    forecast_only = made.clock.total
    try:
        made.clock.seconds["one_training_run"] = made.seconds_of_one_run(found.training)
        if found.options.verify is not None:
            found.verification = made.verify(found.options.verify, training=found.training, line=found.curve)
            found.interrupted = not found.verification.report["complete"]
    except KeyboardInterrupt:
        found.interrupted = True
        found.notes.append("Stopped before the verification had a first point; the forecast itself is complete.")
    made.clock.seconds["forecast"] = forecast_only


def choice_of_step(made: Forecaster, training: Training) -> list[str]:
    """A sentence on a step size that nobody asked for."""
    options = made.options
    if options.schedule == SEARCHED:
        return [schedule_sentence(made.schedule(options.epochs, batch=training.batch))]
    if options.step_size is not None or options.schedule not in SCHEDULES:
        return []
    what = "step size" if training.schedule == "constant" else f"peak of a {training.schedule} schedule"
    budget = options.budget or options.epochs
    found = f"best {what} found for batch {training.batch} within {budget:g} epochs"
    return [f"The step size {training.step_size:.3g} is the {found}."]


def without(options: Options, *names: str) -> dict[str, Any]:
    """All options but some, by name."""
    return {name: value for name, value in vars(options).items() if name not in names}
