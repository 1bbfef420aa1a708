"""What the commands on PyTorch networks share: their options, and the sentence where PyTorch is not installed."""

import importlib
from collections.abc import Callable
from typing import Annotated, Any

import typer

ModelArgument = Annotated[
    str, typer.Argument(help="FILE.py:NAME of a class or function; the file is executed.", metavar="MODEL.py:NAME")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(help=".safetensors, or a state_dict by torch.save; no pickle is executed.", metavar="FILE"),
]
IgnoreOption = Annotated[
    list[str] | None, typer.Option(help="A module that is left as it is; may be repeated.", metavar="MODULE")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="The table alone, no progress.")]
SeedOption = Annotated[int, typer.Option(help="Of everything random.")]


def worker(command: str, module: str, name: str) -> Callable[..., Any]:
    """The function of the PyTorch room that does the work of a command.

    Raises:
      InputError: PyTorch, or another package of its extra, is not installed.
    """
    from riron.errors import InputError

    try:
        return getattr(importlib.import_module(f"riron.torch.{module}"), name)
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.startswith("riron"):
            raise
        raise InputError(f"riron {command} needs {missing.name}", do='pip install "riron[torch]"') from None
