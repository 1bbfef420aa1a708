"""Which nodes to keep: greedy forward choice by rank-one updates, swaps, leverage sampling, and the usual scores."""

from dataclasses import dataclass

import numpy as np

DEAD = 1e-10  # variance relative to the largest, below which a node counts as constant
ROUNDING = 1e-13  # of the first loss, below which a gain is rounding


@dataclass(frozen=True)
class Target:
    """What one reader needs: second moment S (m, m) of its input and the linear maps Z (p, m) that matter.

    The loss of keeping J is `weight` tr(Z R_J Z^T), R_J the residual second moment.
    """

    S: np.ndarray
    Z: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Choice:
    """Nodes in the order of their choice, and the loss after 0, 1, 2, ... of them."""

    order: np.ndarray
    losses: np.ndarray


def target(
    S: np.ndarray,
    M: np.ndarray | None = None,
    Z: np.ndarray | None = None,
    weight: float = 1.0,
    trace_share: float = 1.0,
) -> Target:
    """A target by its metric M (m, m), psd, or by Z with M = Z^T Z, whichever is smaller to carry; M = I without.

    Args:
      trace_share: of M; its smallest directions beyond that share are left out, where M is an estimate anyway.
    """
    m = len(S)
    if Z is not None and len(Z) <= m:
        return Target(S, np.ascontiguousarray(Z), weight)
    metric = Z.T @ Z if Z is not None else np.eye(m) if M is None else M
    values, vectors = np.linalg.eigh((metric + metric.T) / 2)
    below = np.cumsum(np.clip(values, 0, None)) / max(float(np.clip(values, 0, None).sum()), 1e-300)
    kept = (values > values[-1] * 1e-14) & (below > 1 - trace_share)
    return Target(S, np.sqrt(values[kept])[:, None] * vectors[:, kept].T, weight)


def greedy(targets: list[Target], k: int, *, tau: float = 1e-4, blocks: np.ndarray | None = None) -> Choice:
    """Adds k times the node that lowers sum_t weight_t tr(Z_t R_t Z_t^T) most.

    With P = Z R, d = diag R the gain is |P_:j|^2 / (d_j + tau) and the update is of rank one: O(k m (p + k)) in all.

    Args:
      targets: one for each reader of the nodes. k: how many to choose.
      tau: ridge relative to the mean diagonal of S.
      blocks: (m,) block of each node; in turn, each block gets one node before any gets the next.

    Returns: a Choice; nodes that are constant come last.

    Source: Suzuki et al., IJCAI-PRICAI 2020 (spectral pruning); the update is a Schur complement.
    """
    m = len(targets[0].S)
    states = [_State(t, tau, min(k, m)) for t in targets]
    live = np.max([np.diag(t.S) / max(np.diag(t.S).max(), 1e-300) for t in targets], axis=0) > DEAD
    free = np.ones(m, bool)
    order, losses = [], [sum(s.loss for s in states)]
    for step in range(min(k, m)):
        open_ = free if blocks is None else free & _due(blocks, order)
        allowed = open_ & live if (open_ & live).any() else open_
        gains = np.sum([s.gains() for s in states], axis=0)
        if np.max(gains[allowed]) <= ROUNDING * losses[0]:  # nothing is left to gain: keep what differs most
            gains = np.sum([s.d / max(np.trace(s.t.S), 1e-300) for s in states], axis=0)
        j = int(np.argmax(np.where(allowed, gains, -np.inf)))
        free[j] = False
        order.append(j)
        for s in states:
            s.take(j, step)
        losses.append(max(sum(s.loss for s in states), 0.0))
    return Choice(np.array(order), np.array(losses))


def _due(blocks: np.ndarray, order: list[int]) -> np.ndarray:
    """(m,) whether a node's block has been served least often."""
    served = np.bincount(blocks[order], minlength=int(blocks.max()) + 1) if order else np.zeros(int(blocks.max()) + 1)
    return served[blocks] == served.min()


class _State:
    """R of one target as S - U U^T, P = Z R as P0 - A U^T, and d = diag R: no matrix is ever rewritten."""

    RENEW = 64

    def __init__(self, t: Target, tau: float, k: int):
        self.t, m = t, len(t.S)
        self.tau = tau * max(np.trace(t.S) / m, 1e-300)
        self.P = np.asfortranarray(t.Z @ t.S)
        self.d = np.diag(t.S).copy()
        self.U, self.A = np.zeros((m, k)), np.zeros((len(t.Z), k))
        self.g = (self.P**2).sum(axis=0)
        self.loss = t.weight * float((self.P * t.Z).sum())

    def gains(self) -> np.ndarray:
        return self.t.weight * self.g / (np.maximum(self.d, 0) + self.tau)

    def take(self, j: int, step: int) -> None:
        U, A = self.U[:, :step], self.A[:, :step]
        scale = np.sqrt(max(self.d[j], 0) + self.tau)
        u = (self.t.S[:, j] - U @ U[j]) / scale
        a = (self.P[:, j] - A @ U[j]) / scale
        correlated = self.P.T @ a - U @ (A.T @ a)
        self.d -= u * u
        self.U[:, step], self.A[:, step] = u, a
        self.loss -= self.t.weight * float(a @ a)
        if step % self.RENEW == self.RENEW - 1:
            self.g = ((self.P - self.A[:, : step + 1] @ self.U[:, : step + 1].T) ** 2).sum(axis=0)
        else:
            self.g = self.g - 2 * u * correlated + u * u * float(a @ a)


def loss_of(targets: list[Target], kept: np.ndarray, *, tau: float = 1e-4) -> float:
    """sum_t weight_t tr(Z_t R_t Z_t^T) for the nodes kept, by a direct solve."""
    total = 0.0
    for t in targets:
        level = tau * np.trace(t.S) / len(t.S)
        inner = t.S[np.ix_(kept, kept)] + level * np.eye(len(kept))
        cross = t.Z @ t.S[:, kept]
        total += t.weight * float(np.trace(t.Z @ t.S @ t.Z.T) - (cross * np.linalg.solve(inner, cross.T).T).sum())
    return total


def swap(targets: list[Target], kept: np.ndarray, *, tau: float = 1e-4, trials: int | None = None) -> np.ndarray:
    """Exchanges one kept for one dropped node while the loss falls, at most 2k trials (greedy local search)."""
    chosen = list(map(int, kept))
    best = loss_of(targets, np.array(chosen), tau=tau)
    for trial in range(2 * len(chosen) if trials is None else trials):
        j = chosen[trial % len(chosen)]
        rest = [i for i in chosen if i != j]
        states = [_State(t, tau, len(rest)) for t in targets]
        for step, i in enumerate(rest):
            for s in states:
                s.take(i, step)
        gains = np.sum([s.gains() for s in states], axis=0)
        gains[rest] = -np.inf
        new = int(np.argmax(gains))
        loss = sum(s.loss for s in states) - gains[new]
        if new != j and loss < best * (1 - 1e-9):
            chosen[trial % len(chosen)], best = new, loss
    return np.array(chosen)


def leverage_scores(S: np.ndarray, lam: float) -> np.ndarray:
    """(m,) [S (S + lam I)^-1]_jj / N(lam): they sum to 1."""
    scores = np.diag(np.linalg.solve(S + lam * np.eye(len(S)), S))
    return scores / scores.sum()


def leverage_sample(S: np.ndarray, lam: float, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The theorem's rule: k independent draws by leverage; the distinct nodes and the ridge of each.

    With k >= 5 N(lam) log(16 N(lam)/delta), |R_J| <= 4 lam in operator norm with probability 1 - delta.

    Source: Bach, JMLR 2017, proposition 1; Suzuki et al., IJCAI-PRICAI 2020.
    """
    return draw_nodes(leverage_scores(S, lam), lam, k, rng)


def draw_nodes(q: np.ndarray, lam: float, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """k independent draws with probabilities q (m,); the distinct nodes and the ridge lam k q / times of each."""
    nodes, times = np.unique(rng.choice(len(q), size=k, p=q), return_counts=True)
    return nodes, lam * k * q[nodes] / times


def residual_moment(S: np.ndarray, kept: np.ndarray, tau: np.ndarray | float) -> np.ndarray:
    """R_J = S - S_FJ (S_JJ + I_tau)^-1 S_JF."""
    inner = S[np.ix_(kept, kept)] + np.diag(np.broadcast_to(tau, len(kept)))
    return S - S[:, kept] @ np.linalg.solve(inner, S[kept])


def best_scored(scores: np.ndarray, k: int) -> np.ndarray:
    """The k nodes of largest score, ties by place."""
    return np.argsort(-scores, kind="stable")[:k]
