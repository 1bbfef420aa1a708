"""A classifier that costs few bits: weights w_0 + P theta in a random subspace, theta quantised while it is trained."""

import math
from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch.func import functional_call  # pyright: ignore[reportMissingImports]

from ...errors import InputError
from ...guarantees.code_length import CodeLength, code_length
from .pairs import ROWS, Pairs, as_scores
from .random_network import scales

DENSE = 4e7  # entries of P that are stored; beyond, every weight reads READS entries of theta with random signs
READS = 4


class Subspace:
    """The networks w = w_0 + P theta around a module: w_0 its weights, P from a seed, both fixed before the data.

    The columns of P have the size of the layer's weights over sqrt(d). With d at least the number of weights, P is the
    identity times that size.

    Args:
      module: weights that do not depend on the training rows; buffers likewise. dimension: d. seed: of P.

    Source: Li, Farkhoor, Liu & Yosinski, Measuring the intrinsic dimension of objective landscapes, ICLR 2018.
    """

    def __init__(self, module: Any, dimension: int, seed: int = 0):
        self.module = module
        self.origin = {name: p.detach() for name, p in module.named_parameters()}
        total = sum(p.numel() for p in self.origin.values())
        if dimension < 1:
            raise InputError(f"dimension={dimension} must be at least 1")
        if not total:
            raise InputError("the companion has no weights", do="pass a module with layers")
        self.dimension, self.whole = min(dimension, total), dimension >= total
        self.dense = total * dimension <= DENSE
        self.kind = next(iter(self.origin.values())).dtype
        self.projections: dict[str, Any] = {}
        self.unit = scales(self.origin)
        if not self.whole:
            generator = torch.Generator().manual_seed(seed)
            for name, p in self.origin.items():
                self.projections[name] = self._projection(p.numel(), generator)

    def _projection(self, size: int, generator: Any) -> Any:
        d = self.dimension
        if self.dense:
            return torch.randn(size, d, generator=generator, dtype=self.kind) / math.sqrt(d)
        # places in (theta, -theta): a random entry with a random sign
        return torch.randint(2 * d, (READS, size), generator=generator, dtype=torch.int32)

    def weights(self, theta: Any) -> dict[str, Any]:
        """The tensors of the module at theta (d,)."""
        if self.whole:
            parts = theta.split([p.numel() for p in self.origin.values()])
            moved = dict(zip(self.origin, parts, strict=True))
        elif self.dense:
            moved = {name: P @ theta for name, P in self.projections.items()}
        else:
            signed = torch.cat([theta, -theta]) / math.sqrt(READS)
            moved = {name: signed[P].sum(0) for name, P in self.projections.items()}
        return {name: p + self.unit[name] * moved[name].reshape(p.shape) for name, p in self.origin.items()}

    def scores(self, theta: Any, X: Any) -> Any:
        """(n, K) scores of the network at theta."""
        return as_scores(functional_call(self.module, self.weights(theta), (X,)))


@dataclass(frozen=True)
class Quantised:
    """A network of the subspace that a code of `code.bits` bits names.

    Attributes:
      theta: (d,) values of the codebook. code: its length.
    """

    subspace: Subspace
    theta: Any
    code: CodeLength

    def scores(self, X: Any) -> Any:
        """(n, K), without gradients."""
        with torch.no_grad():
            return torch.cat([self.subspace.scores(self.theta, part) for part in X.split(ROWS)])


def fit_quantised(
    subspace: Subspace, pairs: Pairs, levels: int, *, steps: int, settings: int = 1, taught: Any = None,
    share: float = 0.0, rate: float = 0.05, batch: int = 500, seed: int = 0,
) -> Quantised:  # fmt: skip
    """Adam on theta; from half of the steps on every entry is the nearest of `levels` values, which are learnt too.

    Gradients pass the rounding as if it were not there (straight-through).

    Args:
      settings: combinations of dimension and levels among which the caller chooses. taught, share: (n, K) scores to be
        imitated, and their share in the loss.

    Source: Zhou, Veitch, Austern, Adams & Orbanz, ICLR 2019; Lotfi, Finzi, Kapoor, Potapczynski, Goldblum & Wilson,
      PAC-Bayes compression bounds so tight that they can explain generalization, NeurIPS 2022.
    """
    if levels < 2:
        raise InputError(f"levels={levels} must be at least 2")
    generator = torch.Generator().manual_seed(seed)
    theta = torch.zeros(subspace.dimension, dtype=subspace.kind, requires_grad=True)
    half = steps // 2
    optimiser, book = torch.optim.Adam([theta], rate), None
    for step in range(steps):
        if step == half:
            book = _codebook(theta.detach(), levels).requires_grad_()
            optimiser = torch.optim.Adam([theta, book], rate)
        phase = step / max(half, 1) if book is None else (step - half) / max(steps - half, 1)
        slower = 1.0 if book is None else 0.3
        optimiser.param_groups[0]["lr"] = rate * slower * max(0.5 * (1 + math.cos(math.pi * phase)), 0.01)
        used = theta if book is None else book[_nearest(theta, book)] + theta - theta.detach()
        index = torch.randint(len(pairs), (min(batch, len(pairs)),), generator=generator)
        z = subspace.scores(used, pairs.X[index])
        loss = torch.nn.functional.cross_entropy(z, pairs.y[index])
        if share:
            loss = (1 - share) * loss + share * torch.nn.functional.cross_entropy(z, taught[index].softmax(1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    book = _codebook(theta.detach(), levels) if book is None else book.detach()
    places = _nearest(theta, book)
    sent = book.to(torch.float16).to(subspace.kind)  # the codebook that the code holds
    return Quantised(subspace, sent[places], code_length(places.numpy(), levels, settings=settings))


def _nearest(theta: Any, book: Any) -> Any:
    return (theta.detach()[:, None] - book.detach()).abs().argmin(1)


def _codebook(theta: Any, levels: int, rounds: int = 50) -> Any:
    """Lloyd's algorithm in one dimension from quantiles."""
    book = torch.quantile(theta, (torch.arange(levels, dtype=theta.dtype) + 0.5) / levels)
    for _ in range(rounds):
        places = _nearest(theta, book)
        sums = torch.zeros_like(book).index_add_(0, places, theta)
        counts = torch.bincount(places, minlength=levels)
        book = torch.where(counts > 0, sums / counts.clamp_min(1), book)
    return book
