"""What `riron bounds` does."""

from collections.abc import Callable
from typing import Any

from ..files import empty_folder, read_inputs, read_model
from ..reporting import report
from .bounding import bounds


def run_bounds(
    model: str,
    *,
    weights: str,
    data: str,
    heldout: str | None,
    unlabelled: str | None,
    init: str | None,
    out: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    say: Callable[[str], None],
    **options: Any,
) -> None:
    """Reads network and pairs, prints the table and writes bounds.json and bounds.png.

    Raises:
      InputError: whatever is wrong with the files or the options.
    """
    folder = None if out is None else empty_folder(out, force=force)
    network = read_model(model, weights)
    start = None if init is None else read_model(model, init)
    inputs = None if unlabelled is None else read_inputs(unlabelled, network)
    found = bounds(
        network,
        read_inputs(data, network),
        heldout=None if heldout is None else read_inputs(heldout, network),
        unlabelled=inputs[0] if isinstance(inputs, tuple) else inputs,
        init=start,
        progress=not quiet,
        **options,
    )
    report(found, "bounds", folder, as_json=as_json, quiet=quiet, say=say)
