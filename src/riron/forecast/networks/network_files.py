"""The user's own network from the user's own Python file, which is executed: pass only files that you trust."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ...errors import InputError
from .torch_networks import is_torch_module, seeded

MODULE = "riron_user_network"  # the name under which the file is imported
RETURNS = "return (apply, params) with apply(params, X) -> (n,) or (n, K), or an Equinox, Flax or PyTorch module"


def load_network(path: str, inputs: int, outputs: int, seed: int) -> tuple[Any, Any]:
    """(apply, params) of the network that a file defines, or (module, None).

    The file defines `network(inputs, outputs, key)`, which builds the network at its start for rows of `inputs` numbers
    and `outputs` numbers out; key is a JAX key (PyTorch is seeded before the call).

    Args:
      path: of the Python file, which is executed.
      inputs, outputs: what the network takes and gives.
      seed: of its initial parameters.
    Raises: InputError if there is no such file, it fails, or it defines no such function.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"there is no file '{path}'", do="name a Python file that defines network(inputs, outputs, key)"
        )
    with _importable(file.parent):
        build = getattr(_executed(file), "network", None)
        if not callable(build):
            raise InputError(
                f"'{path}' defines no function named network", do=f"define network(inputs, outputs, key) and {RETURNS}"
            )
        key = jax.random.key(seed)
        with seeded(seed):
            made = _trying(lambda: build(inputs, outputs, key), f"network({inputs}, {outputs}, key) of '{path}' fails")
    if isinstance(made, tuple) and len(made) == 2:
        apply, params = made
        return (apply.apply if _is_flax(apply) else apply), params
    module: Any = made
    if _is_flax(module):
        params = _trying(lambda: module.init(key, jnp.zeros((1, inputs))), f"the Flax module of '{path}' fails")
        return module.apply, params
    if is_torch_module(made) or callable(made):
        return made, None
    raise InputError(f"network() of '{path}' returned a {type(made).__name__}", do=RETURNS)


def _is_flax(value: Any) -> bool:
    """Flax modules hold no parameters: init makes them and apply takes them. They are known by that, without Flax."""
    return callable(getattr(value, "init", None)) and callable(getattr(value, "apply", None))


def _executed(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(MODULE, file)
    if spec is None or spec.loader is None:
        raise InputError(f"'{file}' is not a Python file", do="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # dataclasses look their module up
    _trying(lambda: spec.loader.exec_module(module), f"'{file}' fails when executed")  # type: ignore[union-attr]
    return module


def _trying(call: Any, what: str) -> Any:
    try:
        return call()
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        raise InputError(f"{what} ({type(error).__name__}: {line})", do="run it by itself to find the error") from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The file may import its neighbours, as if it were started by hand."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
