"""What `riron spectra` does."""

import json
from collections.abc import Callable
from typing import Any

from ...lab.figures import as_png
from ..files import empty_folder, read_inputs, read_model
from .measuring import spectra


def run_spectra(
    model: str,
    *,
    weights: str | None,
    data: str | None,
    out: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    say: Callable[[str], None],
    **options: Any,
) -> None:
    """Reads the network, measures its spectra, prints the table and writes spectra.json and spectra.png.

    Raises:
      InputError: whatever is wrong with the files or the options.
    """
    folder = None if out is None else empty_folder(out, force=force)
    network = read_model(model, weights)
    found = spectra(network, None if data is None else read_inputs(data, network), **options)
    plain = json.dumps(found.to_dict())
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spectra.json").write_text(plain, encoding="utf-8")
        (folder / "spectra.png").write_bytes(as_png(found.plot(), dpi=150))
    if as_json:
        say(plain)
    elif folder is None or quiet:
        say(str(found))
    else:
        say(f"{found}\nwritten to {folder}: spectra.json, spectra.png")
