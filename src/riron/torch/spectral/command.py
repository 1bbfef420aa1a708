"""What `riron spectra` does."""

from collections.abc import Callable
from typing import Any

from ..files import empty_folder, read_inputs, read_model
from ..reporting import report
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
    report(found, "spectra", folder, as_json=as_json, quiet=quiet, say=say)
