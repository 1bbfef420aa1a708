"""The command line, from `riron list` to `riron bounds`; imports come when needed."""

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import InputError
from . import bounds, compress, forecast, plan, spectra, studies

USAGE, BUG, STOPPED = 2, 70, 130

# Typer carries its own copy of Click since 0.2x and Click's own before; both say what was wrong by this class.
ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class Stopped(Exception):
    """Ctrl-C or SIGTERM inside a command, with what is kept; Typer would swallow the sentence."""


def stoppable(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, with KeyboardInterrupt turned into Stopped."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt as error:
            raise Stopped(str(error)) from None

    return run


app = typer.Typer(
    name="riron",
    help="The theory of learning, made to run: forecast your training, and see theorems as dots and a line.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
app.command("list")(stoppable(studies.list_studies))
app.command("show")(stoppable(studies.show))
app.command("cite")(stoppable(studies.cite))
app.command("run")(stoppable(studies.run))
app.command("sweep", short_help="Draw a phase diagram over two parameters.")(stoppable(studies.sweep))
app.command("check")(stoppable(studies.check))
app.command("forecast", cls=forecast.ForecastCommand, short_help="Forecast SGD on your own table, before you train.")(
    stoppable(forecast.forecast)
)
app.command("compress", short_help="Compress and repair a PyTorch network.")(stoppable(compress.compress))
app.command("spectra", short_help="Dimensions and spectra of a PyTorch network.")(stoppable(spectra.spectra))
app.command("bounds", short_help="Generalisation bounds of a PyTorch network beside its measured gap.")(
    stoppable(bounds.bounds)
)
app.command("plan", short_help="Width, step size, batch and steps for a wanted accuracy.")(stoppable(plan.plan))


def print_version(asked: bool) -> None:
    """Prints the version and leaves."""
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Shows the help if no command is given."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0, 1 fails, 2 usage, 3 inconclusive, 70 a bug of ours, 130 stopped."""
    signal.signal(signal.SIGTERM, _stop)
    report = sys.unraisablehook
    sys.unraisablehook = lambda lost: _stop_again() if lost.exc_type is KeyboardInterrupt else report(lost)
    try:
        status = answer(lambda: app(None if arguments is None else list(arguments), standalone_mode=False))
    finally:
        sys.unraisablehook = report
    sys.exit(status)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _stop_again() -> None:
    """Stops a moment later: what is raised in a finaliser, or in JAX's collection of garbage, Python forgets."""
    threading.Timer(0.02, _thread.interrupt_main, (signal.SIGTERM,)).start()


def answer(command: Callable[[], Any]) -> int:
    """The exit status of a command; what went wrong becomes one sentence on stderr."""
    try:
        return int(command() or 0)
    except InputError as error:
        return _say(f"error: {error}", USAGE)
    except ClickError as error:
        return _say(f"error: {error.format_message()}", USAGE)  # type: ignore[attr-defined]
    except (Stopped, KeyboardInterrupt, typer.Abort) as error:
        return _say(f"stopped; {error}" if str(error) else "stopped", STOPPED)
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        sys.stdout = None
        return 0
    except MemoryError as error:
        return _say(f"error: this machine has too little memory ({error}); use a smaller size", USAGE)
    except Exception as error:  # whatever else escapes is our bug, and must not look like a verdict
        return _say(f"error: riron has a bug ({type(error).__name__}); the details are in {_log()}", BUG)


def _say(sentence: str, status: int) -> int:
    print(" ".join(sentence.split()), file=sys.stderr)  # one line, whatever was typed
    return status


def _log() -> str:
    """Writes the traceback of the present exception to a file and returns its path."""
    import platform
    import tempfile
    import time
    import traceback
    from pathlib import Path

    import platformdirs

    text = f"riron {__version__}, Python {platform.python_version()}, {platform.platform()}\n{traceback.format_exc()}"
    name = time.strftime("crash-%Y%m%d-%H%M%S.log")
    for folder in (platformdirs.user_log_dir("riron", appauthor=False), tempfile.gettempdir()):
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return str(Path(folder) / name)
    return f"nowhere, since no folder can be written:\n{text}"
