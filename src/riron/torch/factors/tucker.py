"""Tucker-2 of a weight (o, c, taps): W ~ sum_pq U[o, p] G[p, q, :] V[c, q], in the metric that the data give.

The squared error is E |H (W - W') x|^2 for patches x (c taps,) with second moment P and H^T H a metric on the outputs:
with P known, the best U and G for a given V are a regression of reduced rank; V comes from the channels' moment S.
"""

from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

SWEEPS = 4  # alternations between both sides
DEAD = 1e-10  # variance relative to the largest below which a direction of the inputs is left out


@dataclass(frozen=True)
class Seen:
    """What is known of a layer's inputs and outputs; centred where an intercept can be stored.

    Attributes:
      S: (c, c) second moment of the channels; None stands for the identity.
      P: (c taps, c taps) of the patches, or None where it is too large.
      Z: (o, o) of the pre-activation; needed where S is given and P is not.
      H: (o, o) symmetric root of the metric on the outputs; None stands for the identity.
    """

    S: Any = None
    P: Any = None
    Z: Any = None
    H: Any = None


@dataclass(frozen=True)
class Factors:
    """W ~ sum U[o, p] G[p, q, :] V[q, c]; U or V is None where its side keeps full rank."""

    U: Any
    G: Any
    V: Any
    error: float

    @property
    def product(self) -> Any:
        """The weight (o, c, taps) that the factors stand for."""
        W = self.G if self.V is None else torch.einsum("pqt,qc->pct", self.G, self.V)
        return W if self.U is None else torch.einsum("op,pct->oct", self.U, W)


def root(S: Any, dead: float = DEAD) -> tuple[Any, Any]:
    """S^1/2 and its inverse, directions below `dead` of the largest floored."""
    values, vectors = torch.linalg.eigh((S + S.mT) / 2)
    values = values.clamp_min(max(float(values[-1]), 1e-300) * dead)
    return (vectors * values.sqrt()) @ vectors.mT, (vectors / values.sqrt()) @ vectors.mT


def tucker(W: Any, r1: int, r2: int, seen: Seen) -> Factors:
    """The factors of ranks r1 (outputs) and r2 (inputs).

    Args:
      W: (o, c, taps) in float64.
      r1, r2: 1 <= r1 <= o, 1 <= r2 <= c.
      seen: moments and the metric; without any the squared error of the weight itself.

    Source: Tucker-2 by alternating projections (De Lathauwer, De Moor & Vandewalle, SIAM J. Matrix Anal. Appl. 2000).
    """
    o, c, _ = W.shape
    r1, r2 = min(r1, o), min(r2, c)
    S_half, S_inverse = (None, None) if seen.S is None else root(seen.S)
    weighted = W if seen.H is None else torch.einsum("ij,jct->ict", seen.H, W)
    if seen.P is None and seen.S is not None and seen.Z is not None:
        found = _from_outputs(weighted, r1, r2, seen, S_half, S_inverse)
    elif seen.P is not None:
        found = _by_patches(weighted, r1, r2, seen.P, S_half, S_inverse)
    else:
        found = _by_sweeps(weighted, r1, r2, S_half, S_inverse)
    U, G, V, error = found
    if r1 == o:
        G, U = torch.einsum("op,pqt->oqt", U, G), None
    if seen.H is not None:
        back = root(seen.H @ seen.H.mT)[1]
        if U is None:
            G = torch.einsum("op,pqt->oqt", back, G)
        else:
            U = back @ U
    return Factors(U, G, V, max(float(error), 0.0))


def surface(W: Any, seen: Seen, inputs: list[int]) -> Any:
    """(len(inputs), o + 1) error of ranks (r1, r2): a row for each r2 in `inputs`, a column for each r1 = 0..o.

    With the patches' moment exact up to the choice of V; else the sum of the tails of both sides, a bound.
    """
    o, c = W.shape[:2]
    weighted = W if seen.H is None else torch.einsum("ij,jct->ict", seen.H, W)
    S_half, S_inverse = (None, None) if seen.S is None else root(seen.S)
    rows = []
    if seen.P is not None:
        flat = weighted.reshape(o, -1)
        whole = torch.linalg.eigvalsh(flat @ seen.P @ flat.mT).flip(0)
        total = whole.sum()
        for r2 in inputs:
            values = whole if r2 == c else _regression(weighted, _encoder(weighted, r2, S_half, S_inverse), seen.P)[0]
            rows.append(torch.cat([total[None], total - values.cumsum(0)]).clamp_min(0))
        return torch.stack(rows)
    T = weighted if S_half is None else torch.einsum("oct,cd->odt", weighted, S_half)
    right = torch.linalg.svdvals(T.movedim(1, 0).reshape(c, -1)) ** 2
    if seen.Z is None:
        left = torch.linalg.svdvals(T.reshape(o, -1)) ** 2
    else:
        left = torch.linalg.eigvalsh(seen.Z if seen.H is None else seen.H @ seen.Z @ seen.H).flip(0)
    left = torch.cat([left.clamp_min(0), torch.zeros(max(o - len(left), 0), dtype=left.dtype)])
    tail = lambda values: torch.cat([values.flip(0).cumsum(0).flip(0), values.new_zeros(1)])
    lost = tail(right)
    left = tail(left)
    return torch.stack([left + lost[min(r2, len(lost) - 1)] * float(r2 < c) for r2 in inputs])


def _encoder(T: Any, r2: int, S_half: Any, S_inverse: Any) -> Any:
    """V (r2, c): the input directions from which sum |T_t phi|^2 is best reconstructed."""
    unfolded = T.movedim(1, -1).reshape(-1, T.shape[1])
    if S_half is None:
        return _leading(unfolded.mT @ unfolded, r2).mT
    unfolded = unfolded @ S_half
    return _leading(unfolded.mT @ unfolded, r2).mT @ S_inverse


def _leading(gram: Any, rank: int) -> Any:
    return torch.linalg.eigh((gram + gram.mT) / 2)[1].flip(1)[:, :rank]


def _regression(T: Any, V: Any, P: Any) -> tuple[Any, Any, Any]:
    """Eigenvalues and vectors of the explained second moment, and the full-rank weight (o, r2, taps) behind V."""
    o, c, taps = T.shape
    seen = torch.einsum("ctds,qd->ctqs", P.reshape(c, taps, c, taps), V)  # E x q^T
    gram = torch.einsum("ctqs,rc->rtqs", seen, V).reshape(len(V) * taps, -1)
    cross = T.reshape(o, -1) @ seen.reshape(c * taps, -1)
    level = 1e-12 * gram.diagonal().mean().clamp_min(1e-300)
    factor = torch.linalg.cholesky(gram + level * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
    weight = torch.cholesky_solve(cross.mT, factor).mT
    explained = weight @ cross.mT
    values, vectors = torch.linalg.eigh((explained + explained.mT) / 2)
    return values.flip(0), vectors.flip(1), weight.reshape(o, len(V), taps)


def _by_patches(T: Any, r1: int, r2: int, P: Any, S_half: Any, S_inverse: Any) -> tuple[Any, Any, Any, Any]:
    o, c, _ = T.shape
    flat = T.reshape(o, -1)
    explained = flat @ P @ flat.mT
    U, total = _leading(explained, r1), explained.trace()
    if r2 == c:
        G = torch.einsum("op,oct->pct", U, T)
        return U, G, None, total - (U.mT @ explained @ U).trace()
    best: Any = None
    for _ in range(SWEEPS):
        V = _encoder(torch.einsum("op,oct->pct", U, T), r2, S_half, S_inverse)
        values, vectors, weight = _regression(T, V, P)
        U, error = vectors[:, :r1], total - values[:r1].sum()
        if best is None or error < best[3]:
            best = (U, torch.einsum("op,oqt->pqt", U, weight), V, error)
    return best


def _by_sweeps(T: Any, r1: int, r2: int, S_half: Any, S_inverse: Any) -> tuple[Any, Any, Any, Any]:
    """Higher-order orthogonal iteration on W S^1/2."""
    o, c, _ = T.shape
    D = T if S_half is None else torch.einsum("oct,cd->odt", T, S_half)
    U, Q = _leading(D.reshape(o, -1) @ D.reshape(o, -1).mT, r1), None
    if r2 < c:
        for _ in range(SWEEPS):
            Q = _encoder(torch.einsum("op,oct->pct", U, D), r2, None, None)
            inside = torch.einsum("oct,qc->oqt", D, Q).reshape(o, -1)
            U = _leading(inside @ inside.mT, r1)
    if Q is None:
        G = torch.einsum("op,oct->pct", U, T)
        return U, G, None, (D**2).sum() - (torch.einsum("op,oct->pct", U, D) ** 2).sum()
    G = torch.einsum("op,oct,qc->pqt", U, D, Q)
    return U, G, Q if S_inverse is None else Q @ S_inverse, (D**2).sum() - (G**2).sum()


def _from_outputs(T: Any, r1: int, r2: int, seen: Seen, S_half: Any, S_inverse: Any) -> tuple[Any, Any, Any, Any]:
    """U from the covariance of the pre-activation, then V from the channels: where patches are too long."""
    Z = seen.Z if seen.H is None else seen.H @ seen.Z @ seen.H
    U = _leading(Z, r1)
    left = Z.trace() - (U.mT @ Z @ U).trace()
    A = torch.einsum("op,oct->pct", U, T)
    if r2 == T.shape[1]:
        return U, A, None, left
    D = torch.einsum("pct,cd->pdt", A, S_half)
    Q = _encoder(D, r2, None, None)
    G = torch.einsum("pct,qc->pqt", D, Q)
    return U, G, Q @ S_inverse, left + (D**2).sum() - (G**2).sum()
