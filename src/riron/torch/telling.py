"""What is being done, on one line of a terminal."""

import sys
from collections.abc import Callable


def teller(progress: bool) -> Callable[[str], None]:
    """Replaces the line by a text; silent without `progress` and where stderr is no terminal."""
    if not progress or not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
