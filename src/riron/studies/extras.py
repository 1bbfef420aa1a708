"""Whether the packages are there that some studies need beyond riron's own."""

from importlib.util import find_spec

PACKAGES = {"": (), "torch": ("torch", "torch_pruning")}


def is_installed(extra: str) -> bool:
    """Whether an optional extra of riron can be used; the empty one always can."""
    return all(find_spec(package) is not None for package in PACKAGES[extra])
