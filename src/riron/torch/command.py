"""What `riron compress` does."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..lab.files import as_json as plain_json
from .compressing import compress
from .files import empty_folder, read_inputs, read_model


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
    folder = empty_folder(out, force=force)
    network = read_model(model, weights)
    done = compress(network, read_inputs(data, network), progress=not quiet, **options)
    done.save(folder)
    if as_json:
        said = {"report": asdict(done.report), "guarantee": done.guarantee and asdict(done.guarantee)}
        say(plain_json(said, indent=None))
    elif not quiet:
        say(f"{done}\nwritten to {folder}: riron.torch.load('{folder}', YOUR_CLASS)")
    else:
        say(str(done))
