"""Norms of a layer as the matrix that it is on its actual input: borders, strides, groups, folded norms and bias.

With biases the matrix is [[W, b], [0, 1]] on the input with a 1 appended; the last row is there where a later layer has
a bias too. White noise of unit variance at the input has the squared norm of its row as the variance of each output:
steps that keep noise uncorrelated (scales, reshapes, averages without overlap) pass variances on, and so does the core
with its weights squared. That is exact, and costs one application of the layer.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from scipy.sparse.linalg import LinearOperator, eigsh

from .feedforward import Layer
from .watching import NotFeedForward, Step

DENSE = 2**21  # entries of a matrix that is written out
FEW = 20_000  # outputs whose rows are computed one by one where variances cannot be passed on
ROWS = 256


@dataclass(frozen=True)
class Operator:
    """The matrix of one layer.

    Attributes:
      layer: that it is of. bias: (outputs,) or None. carries: whether it hands the appended 1 on.
    """

    layer: Layer
    bias: Any
    carries: bool

    @property
    def appended(self) -> bool:
        """Whether it reads the appended 1."""
        return self.bias is not None or self.carries

    @property
    def inputs(self) -> int:
        return math.prod(self.layer.inputs) + self.appended

    @property
    def outputs(self) -> int:
        return math.prod(self.layer.outputs) + self.carries

    def linear(self, x: Any) -> Any:
        """W x for rows (n, *inputs), without the bias."""
        z = self.layer.affine(x)
        return z if self.bias is None else z - self.bias

    def adjoint(self, y: Any) -> Any:
        """W^T y for rows (n, *outputs)."""
        with torch.enable_grad():
            x = torch.zeros(len(y), *self.layer.inputs, dtype=y.dtype, requires_grad=True)
            (found,) = torch.autograd.grad(self.linear(x), x, y)
        return found.detach()

    def dense(self) -> Any:
        """The matrix itself, (outputs, inputs) with the appended row and column."""
        size = math.prod(self.layer.inputs)
        W = self.linear(torch.eye(size, dtype=torch.float64).reshape(size, *self.layer.inputs)).flatten(1).T
        if self.appended:
            b = torch.zeros(len(W), dtype=torch.float64) if self.bias is None else self.bias.flatten()
            W = torch.cat([W, b[:, None]], 1)
        if self.carries:
            W = torch.cat([W, torch.nn.functional.one_hot(torch.tensor([W.shape[1] - 1]), W.shape[1]).double()])
        return W

    def spectral(self) -> float:
        """The largest singular value: of the matrix where it is small, else by Lanczos iteration on W^T W."""
        if self.inputs * self.outputs <= DENSE or min(self.inputs, self.outputs) < 3:
            return float(torch.linalg.matrix_norm(self.dense(), ord=2))
        size = math.prod(self.layer.inputs)

        def gram(v: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(np.ascontiguousarray(v, dtype=np.float64)).flatten()
            with torch.no_grad():
                z = self.linear(x[:size].reshape(1, *self.layer.inputs))
                if self.bias is not None:
                    z = z + x[size] * self.bias
            back = self.adjoint(z).flatten()
            if self.appended:
                last = x[size] if self.carries else torch.zeros((), dtype=torch.float64)
                last = last + (0 if self.bias is None else (self.bias * z[0]).sum())
                back = torch.cat([back, last[None]])
            return back.numpy()

        start = np.random.default_rng(0).standard_normal(self.inputs)
        operator: Any = LinearOperator((self.inputs, self.inputs), matvec=gram, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        largest: Any = eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)
        return math.sqrt(float(largest[0]))

    def rows(self, other: "Operator | None" = None) -> Any:
        """Norms of the rows (outputs,) of the matrix, or of its difference from another's; without the appended row."""
        squares = self._squares(other)
        mine, theirs = self.bias, None if other is None else other.bias
        if mine is not None or theirs is not None:
            squares = squares + (_or_zero(mine) - _or_zero(theirs)) ** 2
        return squares.clamp_min(0).sqrt().flatten()

    def frobenius(self) -> float:
        """Of the matrix."""
        return math.sqrt(float((self.rows() ** 2).sum()) + self.carries)

    def group(self) -> float:
        """Sum of the norms of the rows."""
        return float(self.rows().sum()) + self.carries

    def change(self, other: "Operator") -> float:
        """Group norm of the difference from another operator of the same shape; both hand the appended 1 on alike."""
        return float(self.rows(other).sum())

    def _squares(self, other: "Operator | None") -> Any:
        with torch.no_grad():
            variance = _variance(self.layer)
            scale = _scale(self.layer.after, self.layer.core.after)
            if variance is None or scale is None:
                return self._one_by_one(other)
            weight = self.layer.core.weight
            if other is not None:
                theirs = _scale(other.layer.after, other.layer.core.after)
                if theirs is None or not _same_before(self.layer, other.layer):
                    return self._one_by_one(other)
                units = (len(weight), *[1] * (weight.dim() - 1))
                a, b = _of_each_unit(scale, self.layer.core), _of_each_unit(theirs, self.layer.core)
                if a is None or b is None:
                    return self._one_by_one(other)
                weight, scale = weight * a.reshape(units) - other.layer.core.weight * b.reshape(units), 1.0
            same: Any = self.layer.core.same
            return (same(variance[None], weight**2)[0] * scale**2).reshape(self.layer.outputs)

    def _one_by_one(self, other: "Operator | None") -> Any:
        size = math.prod(self.layer.outputs)
        if size > FEW:
            raise NotFeedForward(
                f"'{self.layer.name}' has {size} outputs between averages that overlap, too many for an exact norm"
            )
        found = []
        for start in range(0, size, ROWS):
            index = torch.arange(start, min(start + ROWS, size))
            unit = torch.nn.functional.one_hot(index, size).double().reshape(len(index), *self.layer.outputs)
            row = self.adjoint(unit) - (0 if other is None else other.adjoint(unit))
            found.append((row.flatten(1) ** 2).sum(1))
        return torch.cat(found).reshape(self.layer.outputs)


def operators(layers: list[Layer]) -> list[Operator]:
    """The matrices of a chain: which have a bias, and which hand the appended 1 on to a later bias."""
    biases = []
    with torch.no_grad():
        for layer in layers:
            b = layer.affine(torch.zeros(1, *layer.inputs, dtype=torch.float64))[0]
            biases.append(b if bool((b != 0).any()) else None)
    later = [any(b is not None for b in biases[k + 1 :]) for k in range(len(layers))]
    return [Operator(layer, b, carries) for layer, b, carries in zip(layers, biases, later, strict=True)]


def _or_zero(bias: Any) -> Any:
    return torch.zeros((), dtype=torch.float64) if bias is None else bias


def _slope(step: Step, like: Any) -> Any:
    """The factors of an elementwise affine step."""
    return step.apply(torch.ones_like(like)[None])[0] - step.apply(torch.zeros_like(like)[None])[0]


def _variance(layer: Layer) -> Any:
    """Variances at the core's input for white noise at the layer's, or None where the noise becomes correlated."""
    v = torch.ones(layer.inputs, dtype=torch.float64)
    for step in layer.before:
        if step.kind == "scale":
            v = v * _slope(step, v) ** 2
        elif step.kind == "average":
            if step.overlaps or not step.window:
                return None
            v = step.apply(v[None])[0] / step.window
        elif step.kind == "reindex":
            v = step.apply(v[None])[0] - step.apply(torch.zeros_like(v)[None])[0]
        else:
            v = step.apply(v[None])[0]
    return v


def _scale(steps: list[Step], shape: tuple[int, ...]) -> Any:
    """The factors, in the shape of the core's output, of elementwise steps after it; None for other steps."""
    s = torch.ones(shape, dtype=torch.float64)
    for step in steps:
        if step.kind not in ("scale", "reshape", "reindex"):
            return None
        if step.kind == "reindex":
            return None
        s = s * _slope(step, s) if step.kind == "scale" else step.apply(s[None])[0]
    return s.reshape(shape)


def _of_each_unit(scale: Any, core: Step) -> Any:
    """One factor for each row of the weight, or None where a row has several."""
    axis = -1 if core.dense or core.weight.dim() == 2 else 0
    table = scale.movedim(axis, 0).reshape(len(core.weight), -1)
    return table[:, 0] if bool((table == table[:, :1]).all()) else None


def _same_before(a: Layer, b: Layer) -> bool:
    """Whether two layers have the same linear steps before the core."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *a.inputs, generator=generator, dtype=torch.float64)
    x[1] = 0
    mine, theirs = x, x
    for step in a.before:
        mine = step.apply(mine)
    for step in b.before:
        theirs = step.apply(theirs)
    mine, theirs = mine[0] - mine[1], theirs[0] - theirs[1]
    return mine.shape == theirs.shape and bool(torch.allclose(mine, theirs, rtol=1e-12, atol=0))
