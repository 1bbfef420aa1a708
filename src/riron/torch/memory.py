"""Memory that is free again goes back to the system."""

import ctypes
import gc
import sys


def give_back(*, cycles: bool = False) -> None:
    """Returns what the C library holds in reserve; activations of many sizes leave it full of holes.

    Args:
      cycles: look for unreachable cycles first: a dependency graph is one, and holds a copy of its network.
    """
    if cycles:
        gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)
