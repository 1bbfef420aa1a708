"""Convex losses of one row with their two derivatives, as the leave-one-out of `riron.theory.alo` needs them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logsumexp, softmax


class RowLoss(NamedTuple):
    """A convex loss of m scores and a target; leading axes of scores and targets broadcast.

    Attributes:
      value: (scores (..., m), targets (..., k)) -> (...,).
      slope: the same -> (..., m), derivative in the scores.
      curvature: the same -> (..., m, m), second derivative, positive semi-definite.
      outputs: m, as a function of the (n, k) targets.
    """

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray, np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray]
    outputs: Callable[[np.ndarray], int] = lambda targets: targets.shape[1]


def _one_by_one(diagonal: np.ndarray) -> np.ndarray:
    return diagonal[..., None]


def _logistic_curvature(u: np.ndarray, y: np.ndarray) -> np.ndarray:
    p = expit(-y * u)
    return _one_by_one(p * (1 - p))


LOGISTIC = RowLoss(  # log(1 + exp(-y u)), m = 1, y = -1 or 1
    value=lambda u, y: np.logaddexp(0, -y * u)[..., 0],
    slope=lambda u, y: -y * expit(-y * u),
    curvature=_logistic_curvature,
)
SQUARED = RowLoss(  # |u - y|^2 / 2
    value=lambda u, y: ((u - y) ** 2).sum(axis=-1) / 2,
    slope=lambda u, y: u - y,
    curvature=lambda u, y: np.broadcast_to(np.eye(u.shape[-1]), (*u.shape, u.shape[-1])),
)


def contrasts(classes: int) -> np.ndarray:
    """(K, K - 1) orthonormal columns, each of sum zero.

    Under a ridge penalty the weights of softmax regression sum to zero over the classes, so that K - 1 scores v with
    logits Q v are all there is; |W|^2 is kept, and the free intercepts lose the direction nothing determines.
    """
    upper = np.triu(np.ones((classes, classes - 1)))
    upper[np.arange(1, classes), np.arange(classes - 1)] = -np.arange(1.0, classes)
    return upper / np.linalg.norm(upper, axis=0)


def softmax_loss(classes: int) -> RowLoss:
    """Cross entropy of softmax(Q v) for K - 1 scores v and one-hot targets, Q of `contrasts`."""
    Q = contrasts(classes)

    def curvature(v, y):
        p = softmax(v @ Q.T, axis=-1)
        H = -p[..., :, None] * p[..., None, :]
        np.einsum("...kk->...k", H)[...] = p * (p @ (1 - np.eye(classes)))  # p (1 - p), and small where p is near 1
        return Q.T @ H @ Q

    return RowLoss(
        value=lambda v, y: logsumexp(v @ Q.T, axis=-1) - ((v @ Q.T) * y).sum(axis=-1),
        slope=lambda v, y: (softmax(v @ Q.T, axis=-1) - y) @ Q,
        curvature=curvature,
        outputs=lambda targets: classes - 1,
    )
