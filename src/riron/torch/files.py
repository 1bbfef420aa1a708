"""Networks, weights and inputs from files, and where results go; nothing is unpickled."""

import inspect
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

from ..checks import nearest
from ..errors import InputError


def empty_folder(path: str, *, force: bool) -> Path:
    """The folder that results go into; it need not exist yet.

    Raises:
      InputError: it is a file, or holds files and `force` is not set.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise InputError(f"{path} is not an empty folder", do="name another, or add --force")
    return folder


def read_model(path: str, weights: str | None) -> Any:
    """The network that a class or function of a Python file makes, with weights from a file.

    Args:
      path: "FILE.py:NAME"; the file is executed. weights: .safetensors, or what torch.save wrote of a state_dict (read
        with weights_only=True).

    Raises:
      InputError: no such file or name, what does not make a module without arguments, weights that do not fit.
    """
    file, _, name = path.rpartition(":")
    if not file or not file.endswith(".py") or not name:
        raise InputError(f"'{path}' does not name a class or function of a Python file", do="write FILE.py:NAME")
    if not Path(file).is_file():
        raise InputError(f"there is no file {file}")
    try:
        names = runpy.run_path(file)
    except Exception as error:
        raise InputError(f"{file} cannot be executed ({type(error).__name__}: {error})") from error
    if name not in names:
        own = [key for key, value in names.items() if callable(value) and not key.startswith("_")]
        raise InputError(f"{file} defines no '{name}'", do=nearest(name, own))
    try:
        model = names[name]()
    except Exception as error:
        raise InputError(
            f"{name}() of {file} fails ({type(error).__name__}: {error})", do="name a function without arguments"
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"{name}() of {file} gives {type(model).__name__}", do="return a torch.nn.Module")
    if weights is not None:
        _load_weights(model, weights)
    return model.eval()


def _load_weights(model: Any, weights: str) -> None:
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"there is no file {weights}")
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{weights} cannot be read as weights ({type(error).__name__})",
            do="save a state_dict with safetensors.torch.save_file",
        ) from error
    try:
        model.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{weights} does not fit the model: {said}") from error


def read_inputs(path: str, model: Any) -> Any:
    """Inputs from an NPZ file: X (and labels y), or one array for each named argument of the model.

    Raises:
      InputError: no such file, object arrays, or names that the model does not take.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (ValueError, OSError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read as NPZ without pickled objects", do="save arrays of numbers"
        ) from error
    if not arrays:
        raise InputError(f"{path} holds no arrays")
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    embeds = any(isinstance(m, torch.nn.Embedding) for m in model.modules())

    def tensor(value: np.ndarray) -> Any:
        found = torch.from_numpy(value)
        whole = not found.is_floating_point()
        return found.long() if whole and embeds else found.to(kind)

    if "X" in arrays:
        X = tensor(arrays["X"])
        return (X, torch.from_numpy(arrays["y"])) if "y" in arrays else X
    taken = list(inspect.signature(model.forward).parameters)
    unknown = [name for name in arrays if name not in taken]
    if unknown:
        raise InputError(
            f"{path} holds '{unknown[0]}', which the model does not take", do=f"name the arrays X (and y), or {taken}"
        )
    return {name: tensor(value) for name, value in arrays.items()}
