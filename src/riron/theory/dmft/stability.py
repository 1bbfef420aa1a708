"""Which steps are stable at the start: the edge of the Hessian, and the noise of batches that feeds itself."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...models.activations import identity
from ...problems.losses import squared
from ...problems.teacher_student import TeacherStudent
from .setting import Setting

SAMPLES = 2048
FAR = 5.0
NEARNESS = np.geomspace(1e-6, 1, 500)[:-1]  # of the argument of the resolvent to its pole


def warn_of_long_steps(problem: TeacherStudent, points: Any, setting: Setting) -> None:
    """Warns of steps beyond stability, which a run of a few steps survives.

    A quadratic loss diverges for certain. Others may flatten on the way: of them steps far beyond the edge are
    warned of, and shorter ones where the loss has not fallen.
    """
    loss = np.mean(np.asarray(points.train_loss), axis=0)
    falls = loss.max() < 1.01 * loss[0] and loss[-1] < 0.98 * loss[0]
    edge = FAR if falls and not is_least_squares(problem) else 1.0
    if max(instability(problem, setting, setting.factors.min())) >= edge:
        warnings.warn(
            f"dt={setting.dt:g} is beyond stability; the line is right, but runs of some length diverge or do not "
            "settle. " + stable_steps(problem, setting),
            stacklevel=4,
        )


def stable_steps(problem: TeacherStudent, setting: Setting) -> str:
    """Names steps that are stable for a quadratic loss as curved as this one at the start."""
    largest, feedback = instability(problem, setting, setting.factors.max())
    if not largest > 0:
        return "Use a smaller dt."
    said = f"With the curvature of the start dt < {setting.dt / largest:.3g} is stable"
    if setting.kernel in ("none", "shuffle"):
        return said + "."
    if not 0 < feedback < np.inf:
        return said + ", and the noise of the batches has an edge of its own."
    dt = setting.dt * setting.factors.max()
    edge = gain(setting, dt) / feedback / dt + (dt / setting.delta if setting.kernel == "bernoulli" else 0.0)
    batch = "eta / B" if setting.kernel == "brownian" else "dt / (batch_fraction delta)"
    return said + f", at this dt with a temperature {batch} < {edge:.3g}."


def instability(problem: TeacherStudent, setting: Setting, factor: float) -> tuple[float, float]:
    """How near steps are to their two edges, each unstable from 1 on: of descent, and of the noise of batches.

    With momentum only the first is known, and the second is 0.
    """
    dt, momentum = setting.dt * factor, setting.momenta.max()
    x, weight = marchenko_pastur(setting.delta)
    x *= hessian_edge(problem, setting.delta) / x.max()
    pull = x + setting.ridge
    largest = dt * pull.max() / (2 * (1 + momentum))
    if momentum or not dt:
        return largest, 0.0
    return largest, noise_feedback(x, weight, pull, dt, gain(setting, dt))


def gain(setting: Setting, dt: float) -> float:
    """Var(c) / delta of the clock for steps of length dt."""
    share = setting.fraction
    variance = {
        "none": 0.0,
        "bernoulli": (1 - share) / share,
        "poisson": 1 / share,
        "shuffle": 0.0,
        "brownian": setting.temperature * setting.delta / setting.dt,
    }[setting.kernel]
    return variance * dt**2 / setting.delta


def noise_feedback(x: np.ndarray, weight: np.ndarray, pull: np.ndarray, dt: float, gain: float) -> float:
    """How much of the noise's square comes back by way of the training loss; the noise explodes from 1 on.

    Args:
      x, weight: (N,) eigenvalues of the Hessian and their weights.
      pull: (N,) x plus the ridge.
      gain: Var(c) / delta of the clock.
    """
    kept = (1 - dt * pull) ** 2
    if kept.max() >= 1 and gain > 0 and (x[kept >= 1] > 0).any():
        return np.inf
    moving = x > 0
    return float(weight[moving] @ (gain * x[moving] ** 2 / (1 - kept[moving])))


def hessian_edge(problem: TeacherStudent, delta: float) -> float:
    """Largest eigenvalue of X^T D X / delta, D the second derivatives of the samples' losses at the start.

    For several units D is taken as its largest eigenvalue, an upper bound; kinks count as straight.
    """
    samples = (x[:SAMPLES] for x in problem.fresh(problem.start_gram, problem.start_overlap))
    return weighted_edge(np.asarray(curvatures(problem, *samples)), delta)


@eqx.filter_jit
def curvatures(problem: TeacherStudent, r: jax.Array, r_star: jax.Array, z: jax.Array) -> jax.Array:
    """Largest second derivative (N,) of each sample's loss."""
    return jnp.linalg.eigvalsh(jax.vmap(jax.hessian(problem.sample_loss))(r, r_star, z))[:, -1]


def weighted_edge(weights: np.ndarray, delta: float) -> float:
    """Right edge of the spectrum of X^T diag(weights) X / delta, entries of X of variance 1/d; 0 if none is positive.

    Source: Silverstein & Choi, J. Multivariate Anal. 1995.
    """
    if not weights.max() > 0:
        return 0.0
    argument = delta / weights.max() * (1 - NEARNESS)
    return float(np.min([1 / s + np.mean(weights / (1 - s * weights / delta)) for s in argument]))


def is_least_squares(problem: TeacherStudent) -> bool:
    """Whether the loss is quadratic in the parameters, so that its curvature stays what it is at the start."""
    return problem.activation is identity and problem.loss is squared


def marchenko_pastur(delta: float, nodes: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of X^T X / delta, entries of X of variance 1/d, and their weights; without samples a mass at 0."""
    low, high = (1 - delta**-0.5) ** 2, (1 + delta**-0.5) ** 2
    angle = np.pi * (np.arange(nodes) + 0.5) / nodes
    x = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    weight = delta * ((high - low) / 2 * np.sin(angle)) ** 2 / (2 * np.pi * x) * np.pi / nodes
    return (np.append(x, 0.0), np.append(weight, 1 - delta)) if delta < 1 else (x, weight)
