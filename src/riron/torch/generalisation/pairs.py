"""Labelled rows for the bounds: checked once, with the labels as 0..K-1 and the network as a frozen copy."""

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ...errors import InputError
from ..inputs import Batch, check_fits, main_output

ROWS = 512  # in one call of the network


@dataclass(frozen=True)
class Pairs:
    """(n, ...) inputs and (n,) labels in 0..classes-1."""

    X: Any
    y: Any
    classes: int

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, index: Any) -> "Pairs":
        """Some of them."""
        return Pairs(self.X[index], self.y[index], self.classes)


def frozen(model: Any) -> Any:
    """A copy in evaluation mode: the caller's network is never touched."""
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"the model is {type(model).__name__}", do="pass a torch.nn.Module")
    return copy.deepcopy(model).cpu().eval().requires_grad_(False)


def read_pairs(data: Any, model: Any, name: str = "train") -> Pairs:
    """Inputs and labels that fit the network.

    Args:
      data: (X, y), tensors or arrays. model: gives one row of K scores for each input; the largest decides (K = 1: the
        sign, with labels 0/1 or -1/+1).

    Raises:
      InputError: no pair, different lengths, no rows, values that are not finite, labels that are not classes or
        outside the network's, inputs or outputs of another shape.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(f"{name} is not a pair", do="pass (X, y): inputs and their labels")
    y = _tensor(data[1], f"the labels of {name}").detach().cpu()
    X = read_rows(data[0], model, name)
    if y.ndim != 1 or len(y) != len(X):
        raise InputError(
            f"{name} has {len(X)} inputs and labels of shape {tuple(y.shape)}", do="pass one label for each input"
        )
    if y.is_floating_point() and not bool((y == y.round()).all()):
        raise InputError(
            f"the labels of {name} are not whole numbers",
            why="these bounds limit the probability of a wrong class, which a regression network does not have",
        )
    y, columns = y.long(), scores(model, X[:2]).shape[1]
    raw = check_fits(model, Batch((X[:2],)))
    if raw.ndim == 1 or raw.shape[1] == 1:
        y = torch.where(y == -1, 0, y)
    if int(y.min()) < 0 or int(y.max()) >= columns:
        worst = int(y.max()) if int(y.max()) >= columns else int(y.min())
        raise InputError(f"{name} has the label {worst} and the network decides among 0..{columns - 1}")
    return Pairs(X, y, columns)


def read_rows(X: Any, model: Any, name: str = "unlabelled") -> Any:
    """(n, ...) inputs that the network takes, in its number format.

    Raises:
      InputError: no tensor, no rows, values that are not finite, a shape that the network does not take.
    """
    X = _tensor(X, name).detach().cpu()
    if X.ndim == 0 or X.numel() == 0:
        raise InputError(f"{name} holds no inputs (shape {tuple(X.shape)})")
    if X.is_floating_point():
        bad = (~torch.isfinite(X)).reshape(len(X), -1).any(1).nonzero()
        if len(bad):
            raise InputError(
                f"{name} holds {len(bad)} inputs with values that are not finite; the first is {int(bad[0])}"
            )
        kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), X.dtype)
        X = X.to(kind)
    out = check_fits(model, Batch((X[:2],)))
    if len(out) != len(X[:2]) or out.ndim > 2 or not out.is_floating_point():
        raise InputError(
            f"the network gives outputs of shape {tuple(out.shape)} for {len(X[:2])} inputs",
            do="it must give one row of class scores for each input",
        )
    return X


def _tensor(value: Any, name: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value
    try:
        return torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {type(value).__name__} is not a tensor of numbers") from error


def as_scores(output: Any) -> Any:
    """(n, K) scores; one score becomes two, so that the sign decides."""
    z = main_output(output)
    z = z[:, None] if z.ndim == 1 else z
    return torch.cat([torch.zeros_like(z), z], 1) if z.shape[1] == 1 else z


def scores(model: Any, X: Any) -> Any:
    """(n, K) scores of the network, K >= 2, without gradients.

    Raises:
      InputError: scores that are not finite.
    """
    with torch.no_grad():
        z = torch.cat([as_scores(model(part)) for part in X.split(ROWS)])
    if not bool(torch.isfinite(z).all()):
        raise InputError("the network gives scores that are not finite", do="look for weights that are not finite")
    return z


def decisions(model: Any, X: Any) -> Any:
    """(n,) the class with the largest score."""
    return scores(model, X).argmax(1)


def shared_rows(train: Any, others: Any, name: str) -> int:
    """How many of the inputs `others` are training inputs too; warns where there are some.

    Raises:
      InputError: all of them are.
    """
    digest = lambda X: [row.tobytes() for row in X.reshape(len(X), -1).contiguous().numpy()]
    known = set(digest(train))
    count = sum(row in known for row in digest(others))
    if count == len(others):
        raise InputError(f"every input of {name} is a training input", do="pass inputs that the network never saw")
    if count:
        warnings.warn(
            f"{count} of {len(others)} inputs of {name} are training inputs too, and the bound assumes none",
            stacklevel=3,
        )
    return count
