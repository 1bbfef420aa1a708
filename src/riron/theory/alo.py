"""Leave-one-out errors of convex ridge regression from one fit: approximate leave-one-out, and exact refits.

The fit minimises sum_i share_i loss_i(x_i . w + b) + (lam/2) |w|^2, the intercept b free and the shares summing to one
(1/n each, if rows are not weighted). With H the Hessian there, h_i = x_i^T H^-1 x_i (the row with its 1 for the
intercept), and loss', loss'' at the fitted score u_i, one Newton step on the problem without row i gives the score that
the row would have had, had it been left out:
    omega_i = u_i + share_i h_i loss'_i / (1 - share_i h_i loss''_i).
For the squared loss this is exact. With several scores a row (softmax) h, loss' and loss'' are blocks.

The step fails silently, and optimistically, where single rows carry much of the Hessian: then the rows of largest
|omega_i - u_i| are fitted exactly without themselves, until that changes little; all rows, where it is cheap.

Source: Rahnama Rad & Maleki, A scalable estimate of the out-of-sample prediction error via approximate leave-one-out
cross-validation, Journal of the Royal Statistical Society B 2020 (rahnamarad2020).
"""

from typing import NamedTuple

import numpy as np

from .alo_losses import RowLoss
from .alo_newton import Design, newton, objective, times
from .alo_refits import exact_left_out

CHEAP = 4e8  # floating-point operations, about a tenth of a second, under which all rows are refitted
FIRST, ENOUGH = 0.05, 2e-3  # share of the rows refitted first; relative change of the loss after which to stop
NOTICED = 1e-2  # relative change of the loss by refits, above which the penalties beside are refitted too
HEAVY = 0.9  # share_i h_i loss''_i above which the approximation is not to be trusted


class Fit(NamedTuple):
    """One penalty's fit.

    Attributes:
      ridge: lam.
      W: (d, m) weights in the coordinates of the design.
      scores: (n, m) fitted.
      left_out: (n, m) scores of each row left out.
      loss: leave-one-out loss, weighted mean over the rows.
      lever: (n,) h_i, mean over the scores of a row.
      heaviest: largest share_i h_i loss''_i (its largest eigenvalue) of the rows not refitted.
      refitted: (n,) True where left_out is exact.
    """

    ridge: float
    W: np.ndarray
    scores: np.ndarray
    left_out: np.ndarray
    loss: float
    lever: np.ndarray
    heaviest: float
    refitted: np.ndarray


def alo_path(
    rows: Design, Y: np.ndarray, ridges: np.ndarray, loss: RowLoss, *, refits: str | float = "near-best"
) -> list[Fit]:
    """Fits and leave-one-out scores along a path of penalties, from the largest down, each started from the last.

    Args:
      rows: from `make_design`.
      Y: (n, k) targets as `loss` takes them.
      ridges: (L,) lam > 0.
      loss: convex, such as `LOGISTIC`.
      refits: "near-best" (automatic refits at the penalty of least loss until that one has them), "every" (at
        every penalty), "none", or a share of the rows, refitted at every penalty.

    Returns:
      Fits in the order of decreasing penalty.

    Raises:
      InputError: if a fit does not converge.
    """
    fits: list[Fit] = []
    W = np.zeros((rows.Z.shape[1], loss.outputs(Y)))
    tangent, last = W, 1.0
    for lam in np.sort(np.asarray(ridges, dtype=float))[::-1]:
        ahead = W + tangent * np.log(lam / last)
        if objective(rows, Y, loss, lam, ahead) < objective(rows, Y, loss, lam, W):
            W = ahead
        W, inverse = newton(rows, Y, loss, lam, W)
        fit = approximate(rows, Y, loss, lam, W, inverse)
        if refits == "every" or not isinstance(refits, str):
            fit = refit(rows, Y, loss, fit, inverse, None if isinstance(refits, str) else refits)
        fits.append(fit)
        tangent, last = -times(inverse, lam * rows.penalised[:, None] * W), lam  # dW / d log lam

    if refits == "near-best":
        _refit_near_best(rows, Y, loss, fits)
    return fits


def _refit_near_best(rows: Design, Y: np.ndarray, loss: RowLoss, fits: list[Fit]) -> None:
    """Refit at the penalty of least loss until it has been, and beside it where refits changed the loss."""
    wanted = {int(np.argmin([fit.loss for fit in fits]))}
    while wanted:
        for k in wanted:
            before, inverse = fits[k].loss, newton(rows, Y, loss, fits[k].ridge, fits[k].W)[1]
            fits[k] = refit(rows, Y, loss, fits[k], inverse)
        best = int(np.argmin([fit.loss for fit in fits]))
        wanted = {best}
        if best == k and abs(fits[k].loss - before) > NOTICED * before:
            wanted = {k - 1, k + 1} & set(range(len(fits)))
        wanted = {k for k in wanted if not fits[k].refitted.any()}


def approximate(rows: Design, Y: np.ndarray, loss: RowLoss, lam: float, W: np.ndarray, inverse: np.ndarray) -> Fit:
    """Approximate leave-one-out at weights and inverse Hessian from `newton`."""
    (d, m), scores = W.shape, rows.Z @ W
    blocks = inverse.reshape(m, d, m, d)
    h = np.empty((len(scores), m, m))
    for a in range(m):
        for b in range(a + 1):
            h[:, a, b] = h[:, b, a] = np.einsum("ij,ij->i", rows.Z @ blocks[a, :, b, :], rows.Z)
    carried = rows.share[:, None, None] * (h @ loss.curvature(scores, Y))
    slope = rows.share[:, None, None] * loss.slope(scores, Y)[..., None]
    left_out = scores + np.linalg.solve((1 + 1e-10) * np.eye(m) - carried, h @ slope)[..., 0]
    heavy = carried[:, 0, 0] if m == 1 else np.abs(np.linalg.eigvals(carried)).max(axis=1)
    nothing = np.zeros(len(scores), dtype=bool)
    lever = np.einsum("iaa->i", h) / m
    return Fit(lam, W, scores, left_out, _mean(rows, Y, loss, left_out), lever, float(heavy.max()), nothing)


def refit(rows: Design, Y: np.ndarray, loss: RowLoss, fit: Fit, inverse: np.ndarray, share: float | None = None) -> Fit:
    """Replace approximate left-out scores by exact ones, the rows that moved furthest first.

    Args:
      rows, Y, loss: the problem.
      fit, inverse: from `approximate` and `newton`.
      share: of the rows; None for all of them if that is cheap, or else as many as still change the loss.
    """
    n, m = fit.scores.shape
    order = np.argsort(-np.abs(fit.left_out - fit.scores).max(axis=1))
    left_out, refitted, done = fit.left_out.copy(), fit.refitted.copy(), 0
    if share is not None:
        count = int(np.ceil(share * n))
    else:
        count = n if 32.0 * n * n * rows.Z.shape[1] * m < CHEAP else int(np.ceil(FIRST * n))
    while done < count:
        which = order[done:count]
        left_out[which] = exact_left_out(rows, Y, loss, fit.ridge, fit.W, inverse, which)
        refitted[which] = True
        changed = rows.share[which] @ (
            loss.value(left_out[which], Y[which]) - loss.value(fit.left_out[which], Y[which])
        )
        done = count
        if share is None and abs(changed) > ENOUGH * fit.loss:
            count = min(2 * count, n)
    h = fit.lever * rows.share * np.einsum("iaa->i", loss.curvature(fit.scores, Y)) / m
    heaviest = fit.heaviest if not refitted.any() else float(np.max(h, where=~refitted, initial=0.0))
    return fit._replace(left_out=left_out, loss=_mean(rows, Y, loss, left_out), refitted=refitted, heaviest=heaviest)


def _mean(rows: Design, Y: np.ndarray, loss: RowLoss, scores: np.ndarray) -> float:
    return float(rows.share @ loss.value(scores, Y))
