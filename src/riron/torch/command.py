"""What `riron compress` does."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from .compressing import compress
from .files import read_inputs, read_model


def run_compress(
    model: str,
    *,
    weights: str | None,
    data: str,
    out: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    say: Callable[[str], None],
    **options: Any,
) -> None:
    """Reads, compresses, writes the folder and prints the report.

    Raises:
      InputError: whatever is wrong with the files or the options.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise InputError(f"{out} is not an empty folder", do="name another, or add --force")
    network = read_model(model, weights)
    done = compress(network, read_inputs(data, network), progress=not quiet, **options)
    done.save(folder)
    if as_json:
        say(json.dumps({"report": asdict(done.report), "guarantee": done.guarantee and asdict(done.guarantee)}))
    elif not quiet:
        say(f"{done}\nwritten to {folder}: riron.torch.load('{folder}', YOUR_CLASS)")
    else:
        say(str(done))
