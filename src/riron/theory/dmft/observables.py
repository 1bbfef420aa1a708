"""From the sweeps of all groups to numbers with standard errors."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...problems.teacher_student import TeacherStudent

Values = dict[str, np.ndarray]
"""By name, with the groups as the first axis."""


@eqx.filter_jit
def fresh_losses(problem: TeacherStudent, Q: jax.Array, q: jax.Array) -> dict[str, jax.Array]:
    """Test loss and error of overlaps Q (N, m, m) and q (N, m, K), by quadrature: no chance of their own."""
    return jax.lax.map(lambda pair: problem.measure_overlaps(*pair), (Q, q))


def observables(problem: TeacherStudent, points: Any, record: np.ndarray) -> Values:
    """What is measured at the recorded steps, each (groups, record, ...)."""
    q, Q = points.overlap[:, record], points.self_overlap[:, record]
    fresh = fresh_losses(problem, Q.reshape(-1, *Q.shape[2:]), q.reshape(-1, *q.shape[2:]))
    values = {"train_loss": np.asarray(points.train_loss[:, record])}
    values |= {name: np.asarray(v).reshape(Q.shape[:2]) for name, v in fresh.items()}
    return values | {"overlap": np.asarray(q), "self_overlap": np.asarray(Q)}


def two_time(kept_w: jax.Array, kept_R: jax.Array, asked: tuple[int, ...], owner: dict[int, np.ndarray]) -> Values:
    """Correlation E[w_t w_s^T] and response d theta_t / d u_s at the times asked for, (groups, asked, asked, m, m)."""
    m, P = kept_w.shape[2:]
    correlation = np.asarray(jnp.einsum("gamp,gbnp->gabmn", kept_w, kept_w)) / P
    response = np.zeros_like(correlation)
    rows = np.asarray(kept_R)
    for a, t in enumerate(asked):
        for b, s in enumerate(asked):
            if s < t:
                first = owner[t][s] * m
                response[:, a, b] = rows[:, a, :, first : first + m]
    return {"correlation": correlation, "response": response}


def extrapolated(coarse: Values, fine: Values) -> tuple[Values, Values]:
    """2 f(dt/2) - f(dt) for each group, and what that has moved, averaged over the groups."""
    values = {name: 2 * fine[name] - coarse[name] for name in fine}
    return values, {name: np.abs(np.mean(fine[name] - coarse[name], axis=0)) for name in fine}


def mean_and_error(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over independent groups (the first axis): the mean and its standard error."""
    return groups.mean(axis=0), groups.std(axis=0, ddof=1) / len(groups) ** 0.5
