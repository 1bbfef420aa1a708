"""Two plain NumPy implementations of dynamical mean-field theory, to compare with: one student, one teacher, SGD.

`sweep` is the algorithm of `riron.theory.dmft` written down step by step, with the same compressed past. `grid` is the
approach of published codes: all of the two-time grid is guessed and iterated to a fixed point with damping, each round
drawing the paths of the whole run and the derivatives of some of them. Both take batches without replacement (b = 1:
gradient descent).
"""

import numpy as np


class Problem:
    """Start w_0 and teacher w* of variance 1, uncorrelated; slope and curvature are derivatives of loss (r, w*, z)."""

    def __init__(self, loss, slope, curvature, delta, dt, b=1.0, ridge=0.0):
        self.loss, self.slope, self.curvature = loss, slope, curvature
        self.delta, self.dt, self.b, self.ridge = delta, dt, b, ridge

    def weights(self, rng, paths):
        return self.dt / self.b * (rng.random(paths) < self.b) if self.b < 1 else np.full(paths, self.dt)


def whitened(rows):
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.linalg.solve(np.linalg.cholesky(rows @ rows.T / rows.shape[1]), rows)


def sweep(problem, steps, paths, keep=8, per=6, seed=0):
    """Train loss, overlap and self-overlap at each of the steps 0 .. steps, from one causal sweep."""
    rng, delta, dt = np.random.default_rng(seed), problem.delta, problem.dt
    base = whitened(rng.normal(size=(3, paths)))
    F, z = base[:2], base[2]
    capacity = keep + 3 + (per + 2) * (2 + int(np.log2(max(steps / per, 2))))
    V, HS = np.zeros((capacity, paths)), np.zeros((capacity, paths))
    H, nugget, sizes, count = np.zeros((capacity, capacity)), np.zeros(capacity), [], 0
    A, R = np.array([1.0, 0.0]), np.zeros(capacity)
    found = []
    for _ in range(steps + 1):
        v, hs, n = V[:count], HS[:count], count
        w = A @ F + R[:n] @ v
        r = w - R[:n] @ hs / delta
        ell = problem.slope(r, F[1], z)
        found.append((problem.loss(r, F[1], z).mean(), A[1], A @ A + R[:n] @ H[:n, :n] @ R[:n] / delta))
        c = problem.weights(rng, paths)
        h, mean = c * ell, dt * ell
        local = mean @ w / (w @ w)
        y = mean - local * w
        gram = H[:n, :n] / delta + np.diag(nugget[:n])
        rho = y @ y / paths / (paths * dt**2)
        alpha = local * A + F @ y / paths
        N = local * R[:n] + np.linalg.solve(gram + rho * np.eye(n), v @ y / paths)
        hk, hh = hs @ h / paths, h @ h / paths
        coefficients = np.linalg.solve(gram, hk / delta)
        eps = 1e-6 * hh / delta
        spread = max(hh / delta + eps - coefficients @ hk / delta, eps)
        x = rng.normal(size=paths)
        x -= x.mean()
        x -= (base @ x / paths) @ base
        x -= np.linalg.solve(gram, v @ x / paths) @ v
        V[n], HS[n] = coefficients @ v + np.sqrt(spread / (x @ x / paths)) * x, h
        H[n, :n] = H[:n, n] = hk
        H[n, n], nugget[n] = hh, eps
        A, R[:n], R[n] = (1 - dt * problem.ridge) * A - alpha, (1 - dt * problem.ridge) * R[:n] - N, 1.0
        sizes.append(1)
        count = compress(sizes, n + 1, V, HS, H, nugget, R, keep, per)
    return np.array(found).T


def compress(sizes, count, V, HS, H, nugget, R, keep, per):
    """Joins the two oldest blocks of a size where there are too many; the number of blocks left."""
    size = 1
    while True:
        same = [k for k, s in enumerate(sizes) if s == size]
        if not same:
            return count
        if len(same) > (keep if size == 1 else per) + 1:
            k = same[0]
            for table in (V, HS, H):
                table[k] += table[k + 1]
                table[k + 1 : count - 1] = table[k + 2 : count]
            H[:, k] += H[:, k + 1]
            H[:, k + 1 : count - 1] = H[:, k + 2 : count]
            nugget[k] += nugget[k + 1]
            nugget[k + 1 : count - 1] = nugget[k + 2 : count]
            R[k] = (R[k] + R[k + 1]) / 2
            R[k + 1 : count - 1] = R[k + 2 : count]
            sizes[k : k + 2] = [2 * size]
            count -= 1
        size *= 2


def grid(problem, steps, paths, tangents=600, damping=0.7, rtol=2e-3, most=100, seed=0):
    """The same by iteration of the whole grid; also the number of rounds. Random numbers are the same in each round."""
    T, delta, dt = steps + 1, problem.delta, problem.dt
    rng = np.random.default_rng(seed)
    base = whitened(rng.normal(size=(2, paths)))
    noise = rng.normal(size=(T, paths))
    c = np.array([problem.weights(rng, paths) for _ in range(T)])
    decay = 1 - dt * problem.ridge
    C, q = decay ** np.add.outer(np.arange(T), np.arange(T)), np.zeros(T)
    R = np.tril(decay ** np.maximum(np.subtract.outer(np.arange(T), np.arange(T)) - 1, 0), -1)
    last = np.inf
    rounds = 0
    while rounds < most:
        rounds += 1
        left = C - np.outer(q, q)
        factor = np.linalg.cholesky(left + 1e-8 * np.trace(left) / T * np.eye(T))
        w = q[:, None] * base[0] + factor @ noise
        h, train = np.zeros((T, paths)), np.zeros(T)
        mean, D = np.zeros((T, paths)), np.zeros((T, tangents, T))
        for k in range(T):
            r = w[k] - R[k, :k] @ h[:k] / delta
            ell = problem.slope(r, base[0], base[1])
            train[k] = problem.loss(r, base[0], base[1]).mean()
            h[k], mean[k] = c[k] * ell, dt * ell
            G = problem.curvature(r, base[0], base[1])[:tangents]
            felt = np.tensordot(R[k, :k], c[:k, :tangents, None] * D[:k], axes=1)
            D[k] = -G[:, None] * felt / delta
            D[k, :, k] += G
        H = h @ h.T / paths
        M = dt * D.mean(axis=1)
        M_star = mean @ base[0] / paths - M @ q
        C_new, q_new, R_new = np.zeros((T, T)), np.zeros(T), np.zeros((T, T))
        C_new[0, 0] = 1.0
        for k in range(T - 1):
            R_new[k + 1, : k + 1] = decay * R_new[k, : k + 1] - M[k, : k + 1] @ R_new[: k + 1, : k + 1]
            R_new[k + 1, k] += 1.0
            q_new[k + 1] = decay * q_new[k] - M[k, : k + 1] @ q_new[: k + 1] - M_star[k]
            fluctuation = H[k, : k + 1] @ R_new[: k + 2, : k + 1].T / delta
            row = decay * C_new[k, : k + 1] - M[k, : k + 1] @ C_new[: k + 1, : k + 1]
            C_new[k + 1, : k + 1] = row - M_star[k] * q_new[: k + 1] + fluctuation[: k + 1]
            C_new[: k + 1, k + 1] = C_new[k + 1, : k + 1]
            last_one = decay * C_new[k, k + 1] - M[k, : k + 1] @ C_new[: k + 1, k + 1]
            C_new[k + 1, k + 1] = last_one - M_star[k] * q_new[k + 1] + fluctuation[k + 1]
        C, q, R = (damping * new + (1 - damping) * old for new, old in ((C_new, C), (q_new, q), (R_new, R)))
        if np.max(np.abs(train / last - 1)) < rtol:
            break
        last = train
    return np.array([train, q, np.diag(C)]), rounds
