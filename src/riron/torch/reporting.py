"""How the commands that measure a network hand over what they found: on the screen, as JSON and as a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..lab.figures import as_png
from ..lab.files import as_json as plain_json


def report(
    found: Any, name: str, folder: Path | None, *, as_json: bool, quiet: bool, say: Callable[[str], None]
) -> None:
    """Writes NAME.json and NAME.png into the folder, if there is one, and says the table or the JSON.

    Args:
      found: has `to_dict`, `plot` and a table as its text. Numbers that are not finite become null.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(plain_json(found.to_dict()), encoding="utf-8")
        (folder / f"{name}.png").write_bytes(as_png(found.plot(), dpi=150))
    if as_json:
        say(plain_json(found.to_dict(), indent=None))
    elif folder is None or quiet:
        say(str(found))
    else:
        say(f"{found}\nwritten to {folder}: {name}.json, {name}.png")
