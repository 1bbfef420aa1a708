"""Scores of rows left out, exactly: the problem without each row solved from the full one, many rows at once."""

import numpy as np

from ..errors import InputError
from .alo_losses import RowLoss
from .alo_newton import Design, newton

SWEEPS = 40
BLOCK = 3_000_000  # scores held at once
TOLERANCE = 1e-4  # of a left-out score, relative to 1 + its distance from the fitted one


def exact_left_out(
    rows: Design, Y: np.ndarray, loss: RowLoss, lam: float, W: np.ndarray, inverse: np.ndarray, which: np.ndarray
) -> np.ndarray:
    """Scores (len(which), m) of rows fitted without themselves, the shares of the others unchanged.

    Every row has its own weights, moved by its own inverse Hessian: the full one, H^-1, corrected for the row's removal
    by Sherman, Morrison and Woodbury and kept. The first such move is approximate leave-one-out. Where the moves do not
    shrink (the Hessian changes too much), Newton's method takes over.

    Args:
      rows, Y, loss, lam: the problem.
      W, inverse: from `newton`.
      which: indices of rows.

    A row whose problem has no minimum (the last of its class) keeps the approximation.
    """
    width = max(1, BLOCK // (len(Y) * W.shape[1]))
    parts = [which[k : k + width] for k in range(0, len(which), width)]
    return np.concatenate([_block(rows, Y, loss, lam, W, inverse, part) for part in parts])


def _block(rows, Y, loss, lam, W, inverse, which):
    Z, share = rows.Z, rows.share
    (d, m), B = W.shape, len(which)
    x = Z[which]
    P = np.einsum("iajk,Bk->Biaj", inverse.reshape(m * d, m, d).reshape(m * d, m, 1, d), x)[
        ..., 0
    ]  # H^-1 x, (B, md, m)
    h = np.einsum("Bj,Bajc->Bac", x, P.reshape(B, m, d, m))
    scores = x @ W
    A = share[which, None, None] * loss.curvature(scores, Y[which])
    S = np.linalg.solve(np.eye(m) - A @ h, A)
    slope = share[which, None] * loss.slope(scores, Y[which])
    start = np.einsum("Bka,Ba->Bk", P, slope + np.einsum("Bab,Bbc,Bc->Ba", S, h, slope))
    weights = np.tile(W.T.ravel(), (B, 1)) + start
    lever = np.sqrt(np.maximum(np.einsum("Baa->B", h + h @ S @ h), 0))

    shrink = np.tile(lam * rows.penalised, m)
    todo, first = np.arange(B), np.full(B, np.inf)
    failed: list[int] = []
    for _ in range(SWEEPS):
        U = (Z @ weights[todo].reshape(-1, d).T).reshape(len(Z), len(todo), m)
        G = loss.slope(U, Y[:, None, :]) * share[:, None, None]
        G[which[todo], np.arange(len(todo))] = 0
        gradient = (Z.T @ G.reshape(len(Z), -1)).reshape(d, len(todo), m).transpose(1, 2, 0).reshape(len(todo), -1)
        gradient += shrink * weights[todo]
        lifted = np.einsum("Bab,Bb->Ba", S[todo], np.einsum("Bka,Bk->Ba", P[todo], gradient))
        step = -(gradient @ inverse + np.einsum("Bka,Ba->Bk", P[todo], lifted))
        weights[todo] += step
        size = np.sqrt(np.maximum(-(gradient * step).sum(axis=1), 0))  # no score moves further than lever * size
        shift = np.abs(np.einsum("Bj,Baj->Ba", x[todo], weights[todo].reshape(-1, m, d)) - scores[todo]).max(axis=1)
        grows = ~(size < 3 * first[todo])
        failed += list(todo[grows])
        first[todo] = np.minimum(first[todo], size)
        todo = todo[~grows & (lever[todo] * size > TOLERANCE * (1 + shift))]
        if not len(todo):
            break
    for k in [*failed, *todo]:
        without = rows._replace(share=np.where(np.arange(len(Z)) == which[k], 0.0, share))
        try:
            weights[k] = newton(without, Y, loss, lam, W)[0].T.ravel()
        except InputError:  # the row is the last of its class: without it the intercept has no minimum
            weights[k] = W.T.ravel() + start[k]
    return np.einsum("Bj,Baj->Ba", x, weights.reshape(B, m, d))
