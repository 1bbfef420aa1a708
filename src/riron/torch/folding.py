"""The least-squares algebra of reconstruction: moments of two folds, ridge solves, the folded weight.

Every fit is a step away from a weight W0 that is already there, so ridge shrinks towards W0 and a network that was not
cut stays exactly as it is.
"""

from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

TAUS = (1.0, 10.0, 100.0)  # times tau, chosen by cross-validation between the folds


class Moments:
    """Streamed float64 sums of patches p (rows, g, c) and targets z (rows, g, o)."""

    def __init__(self, full: bool = True):
        self.n, self.full = 0, full
        self.p: Any = 0.0
        self.z: Any = 0.0
        self.pp: Any = 0.0
        self.zp: Any = 0.0
        self.zz: Any = 0.0

    def add(self, patches: Any, targets: Any) -> None:
        """Adds rows."""
        for p, z in zip(patches.split(8192), targets.split(8192), strict=True):
            p, z = p.double().movedim(1, 0), z.double().movedim(1, 0)  # (g, rows, .)
            self.n += p.shape[1]
            self.p, self.z = self.p + p.sum(1), self.z + z.sum(1)
            if self.full:
                self.pp, self.zp = self.pp + p.mT @ p, self.zp + z.mT @ p
                self.zz = self.zz + (z**2).sum(1)

    def __add__(self, other: "Moments") -> "Moments":
        total = Moments(self.full)
        for name in ("n", "p", "z", "pp", "zp", "zz"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def residual(self, weight: Any, centred: bool) -> tuple[Any, Any, Any]:
        """Means over rows of p p^T (g, c, c), of r p^T and of r^2 for r = z - W0 p, each centred if asked."""
        pp, p = self.pp / self.n, self.p / self.n
        zp, zz, z = self.zp / self.n, self.zz / self.n, self.z / self.n
        rp = zp - weight @ pp
        rr = zz - 2 * (weight * zp).sum(-1) + ((weight @ pp) * weight).sum(-1)
        if centred:
            r = z - (weight @ p[..., None])[..., 0]
            pp = pp - p[..., :, None] * p[..., None, :]
            rp, rr = rp - r[..., :, None] * p[..., None, :], rr - r**2
        return pp, rp, rr


@dataclass
class Fit:
    """A refitted weight (g, o, c), its intercept (g, o), and what it left.

    Attributes:
      before, after: mean squared error of W0 and of the fit (on the other fold where there is one).
      scale: mean square of the target, centred where there is an intercept.
    """

    weight: Any
    intercept: Any
    before: float
    after: float
    scale: float
    tau: float


def solve_ridge(gram: Any, cross: Any, tau: float) -> Any:
    """cross (gram + tau tr(gram)/c I)^-1 by Cholesky, for stacked matrices."""
    c = gram.shape[-1]
    level = tau * gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-300)
    eye = torch.eye(c, dtype=gram.dtype, device=gram.device)
    factor, info = torch.linalg.cholesky_ex(gram + level[..., None, None] * eye)
    if bool(info.any()):
        factor = torch.linalg.cholesky(gram + (level.clamp_min(1e-12) * 1e4)[..., None, None] * eye)
    return torch.cholesky_solve(cross.mT, factor).mT


def refit(folds: tuple[Moments, Moments], weight: Any, *, tau: float, centred: bool) -> Fit:
    """The weight that best gives the targets; the ridge, or no step at all, is chosen by the error on the other fold.

    Args:
      folds: moments of the even and the odd batches; the second may be empty.
      weight: (g, o, c) the start W0. tau: smallest ridge, relative to the mean variance of the regressors.
      centred: whether an intercept can be stored.
    """
    total = folds[0] + folds[1] if folds[1].n else folds[0]
    pp, rp, rr = total.residual(weight, centred)
    square = total.zz / total.n - (total.z / total.n) ** 2 * float(centred)
    scale, before = float(square.sum()), float(rr.sum())
    chosen, step, after = tau, None, before
    if folds[1].n:
        parts = [fold.residual(weight, centred) for fold in folds]
        best = sum(float(part[2].sum()) for part in parts) / 2
        before = after = best
        chosen = None
        for factor in TAUS:
            errors = []
            for (gram, cross, _), (other_gram, other_cross, other_square) in (parts, parts[::-1]):
                trial = solve_ridge(gram, cross, tau * factor)
                left = other_square - 2 * (trial * other_cross).sum(-1) + ((trial @ other_gram) * trial).sum(-1)
                errors.append(float(left.sum()))
            if sum(errors) / 2 < best:
                best, chosen = sum(errors) / 2, tau * factor
        after = best
    if chosen is not None:
        step = solve_ridge(pp, rp, chosen)
        if not folds[1].n:
            after = float((rr - 2 * (step * rp).sum(-1) + ((step @ pp) * step).sum(-1)).sum())
    refitted = weight if step is None else weight + step
    intercept = torch.zeros_like(total.z)
    if centred:
        intercept = (total.z - (refitted @ total.p[..., None])[..., 0]) / total.n
    return Fit(refitted, intercept, max(before, 0.0), max(after, 0.0), scale, chosen or float("inf"))


def mean_intercept(moments: Moments, weight: Any) -> Any:
    """The intercept alone, where the patches are too long to refit."""
    return (moments.z - (weight @ moments.p[..., None])[..., 0]) / moments.n


class ChannelMoments:
    """Cross moments of what the original layer reads (C) and what the compressed one reads (k)."""

    def __init__(self):
        self.n = 0
        self.cross: Any = 0.0
        self.gram: Any = 0.0
        self.a: Any = 0.0
        self.b: Any = 0.0

    def add(self, original: Any, compressed: Any) -> None:
        """Adds rows (rows, C) and (rows, k)."""
        for phi, kept in zip(original.split(65536), compressed.split(65536), strict=True):
            phi, kept = phi.double(), kept.double()
            self.n += len(phi)
            self.cross, self.gram = self.cross + phi.mT @ kept, self.gram + kept.mT @ kept
            self.a, self.b = self.a + phi.sum(0), self.b + kept.sum(0)

    def mixing(self, columns: Any, *, tau: float, centred: bool) -> Any:
        """A (C, k): the best reconstruction of the original nodes from the kept ones, as a step from the identity."""
        cross, gram = self.cross / self.n, self.gram / self.n
        if centred:
            a, b = self.a / self.n, self.b / self.n
            cross, gram = cross - torch.outer(a, b), gram - torch.outer(b, b)
        start = torch.zeros_like(cross)
        start[columns, torch.arange(len(columns))] = 1.0
        return start + solve_ridge(gram, cross - start @ gram, tau)
