"""Canonical polyadic decomposition W[o, c, t] ~ sum_r a[o, r] b[c, r] C[t, r] by alternating least squares."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]

RIDGE = 1e-6  # of each regression, relative to the mean diagonal of its Gram matrix, at the start
CAP = 10.0  # largest norm of one component, in units of |W|: diverging components cancel each other
RESTARTS, SWEEPS, ENOUGH = 3, 300, 1e-9


def canonical(
    W: Any, rank: int, *, seed: int = 0, restarts: int = RESTARTS, sweeps: int = SWEEPS
) -> tuple[Any, Any, Any, float]:
    """The best of several runs of alternating least squares.

    Args:
      W: (o, c, taps) in float64. rank: number of components.
      restarts: starts tried: leading singular vectors, a simultaneous diagonalisation, then random ones.
      sweeps: most passes over the three factors.

    Returns: a (o, R), b (c, R), C (taps, R), and the squared error.

    Source: Carroll & Chang, Psychometrika 1970; starts: Kolda & Bader, SIAM Review 2009, sections 3.4 and 3.1.
    """
    generator = torch.Generator().manual_seed(seed)
    scale = W.norm().clamp_min(1e-300)
    T = W / scale
    best: Any = None
    for number in range(restarts):
        found = _sweeps(T, _start(T, rank, number, generator), sweeps)
        if best is None or found[3] < best[3]:
            best = found
        if best[3] < ENOUGH**2:
            break
    a, b, C, error = best
    return a * scale, b, C, float(error * scale**2)


def _start(T: Any, rank: int, number: int, generator: Any) -> list[Any]:
    if number == 1 and rank <= min(T.shape[:2]) and T.shape[2] > 1:
        return _diagonalised(T, rank, generator)
    factors = []
    for axis in range(3):
        size = T.shape[axis]
        random = torch.randn(size, rank, generator=generator, dtype=T.dtype).to(T.device) / size**0.5
        if number == 0:
            unfolded = T.movedim(axis, 0).reshape(size, -1)
            leading = torch.linalg.eigh(unfolded @ unfolded.mT)[1].flip(1)[:, :rank]
            random[:, : leading.shape[1]] = leading
        factors.append(random)
    return factors


def _diagonalised(T: Any, rank: int, generator: Any) -> list[Any]:
    """Exact where T has this rank and rank <= o, c: eigenvectors of X Y^+ for two mixtures X, Y of the slices."""
    leading = lambda unfolded: torch.linalg.eigh(unfolded @ unfolded.mT)[1].flip(1)[:, :rank]
    o, c, taps = T.shape
    U, V = leading(T.reshape(o, -1)), leading(T.movedim(1, 0).reshape(c, -1))
    core = torch.einsum("oct,op,cq->pqt", T, U, V)
    mix = torch.randn(taps, 2, generator=generator, dtype=T.dtype).to(T.device)
    X, Y = core @ mix[:, 0], core @ mix[:, 1]
    vectors = torch.linalg.eig(X @ torch.linalg.pinv(Y))[1]
    a = U @ (vectors.real + vectors.imag)
    coefficients = torch.linalg.lstsq(a, T.reshape(o, -1)).solution.reshape(rank, c, taps)  # each of rank one
    left, values, right = torch.linalg.svd(coefficients, full_matrices=False)
    return [a, (left[:, :, 0] * values[:, :1]).mT.contiguous(), right[:, 0].mT.contiguous()]


def _sweeps(T: Any, factors: list[Any], sweeps: int) -> tuple[Any, Any, Any, Any]:
    equations = ("oct,cr,tr->or", "oct,or,tr->cr", "oct,or,cr->tr")
    total, before, error = (T**2).sum(), None, torch.zeros(())
    for sweep in range(sweeps):
        ridge = RIDGE * 0.7 ** min(sweep, 60)
        for axis in range(3):
            first, second = (factors[k] for k in range(3) if k != axis)
            gram = (first.mT @ first) * (second.mT @ second)
            cross = torch.einsum(equations[axis], T, first, second)
            level = (ridge * gram.diagonal().mean()).clamp_min(1e-300)
            eye = torch.eye(len(gram), dtype=T.dtype, device=T.device)
            factor, failed = torch.linalg.cholesky_ex(gram + level * eye)
            if bool(failed):
                factor = torch.linalg.cholesky(gram + (RIDGE * gram.diagonal().mean() + 1e-300) * eye)
            factors[axis] = torch.cholesky_solve(cross.mT, factor).mT
        error = (total - 2 * (cross * factors[2]).sum() + (gram * (factors[2].mT @ factors[2])).sum()).clamp_min(0)
        factors = _balanced(factors)
        if error < ENOUGH**2 or (before is not None and before - error < 1e-5 * error):
            break
        before = error
    return factors[0], factors[1], factors[2], error


def _balanced(factors: list[Any]) -> list[Any]:
    """Each component's norm spread evenly over its three vectors, and capped."""
    norms = [f.norm(dim=0).clamp_min(1e-300) for f in factors]
    size = (norms[0] * norms[1] * norms[2]).clamp_max(CAP) ** (1 / 3)
    return [f / n * size for f, n in zip(factors, norms, strict=True)]
