"""Mean-field Langevin dynamics, its flow without noise, and stochastic particle gradient descent: three assemblies."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..checks import as_positive
from ..errors import InputError
from ..models.base import is_known, to_real
from ..problems.mean_field import MeanFieldProblem
from .assembly import Assembly
from .gradients import Estimator, Full, Minibatch, WithoutReplacement
from .schedules import Schedule
from .sgd import langevin

PARTICLES, ROWS = 200, 512
"""How many neurons and samples the stability edge is measured on."""


def mfld(
    problem: MeanFieldProblem,
    *,
    step_size: ArrayLike | Schedule,
    batch: int | None = None,
    gradient: Estimator | None = None,
) -> Assembly:
    """Mean-field Langevin dynamics: every particle moves along the first variation of L(mu), with noise lam2.

    w_j <- w_j - eta grad_w [(1/n) sum_i loss'(f(x_i), y_i) h_{w_j}(x_i) + lam1 |w_j|^2] + sqrt(2 eta lam2) xi_j.

    Args:
      problem: the problem whose temperature lam2 is used, and whose stability edge the step must respect.
      step_size: a number, an array with one number for each step, or a schedule. Swept as `dynamics.step_size`.
      batch: samples a step, different rows, the same for all particles; None for all rows.
      gradient: another estimator of the gradient, such as `SVRG(8, 20)`.

    Raises:
      InputError: batch and gradient both given; a step size beyond the stability edge at the start (it is named). To
        run beyond it, use `langevin(step_size=..., temperature=problem.lam2)`.

    Source: Nitanda, Wu & Suzuki, AISTATS 2022; Suzuki, Nitanda & Wu, NeurIPS 2023.
    """
    if batch is not None and gradient is not None:
        raise InputError("batch and gradient are both given", do="give the batch to the gradient estimator")
    _check_stable(problem, step_size)
    estimator = gradient or (Full() if batch is None else WithoutReplacement(batch))
    return langevin(step_size=step_size, temperature=float(problem.lam2), gradient=estimator)


def particle_flow(*, step_size: ArrayLike | Schedule, batch: int | None = None) -> Assembly:
    """The Wasserstein gradient flow of risk + lam1 E|w|^2 by explicit steps: MFLD without noise.

    Args:
      step_size: as in `mfld`.
      batch: different rows a step; None for all.

    Source: Nitanda & Suzuki, arXiv:1712.05438 (2017); Chizat & Bach, NeurIPS 2018; Mei, Montanari & Nguyen, PNAS 2018.
    """
    return Assembly(step_size, Full() if batch is None else WithoutReplacement(batch))


class Decaying(Schedule):
    """start / (1 + t / halving)^power."""

    start: jax.Array = eqx.field(converter=to_real)
    halving: jax.Array = eqx.field(converter=to_real)
    power: jax.Array = eqx.field(converter=to_real, default=1.0)

    def __call__(self, t: jax.Array) -> jax.Array:
        return self.start / (1 + t / self.halving) ** self.power


def spgd(*, step_size: float, halving: float, power: float = 1.0, batch: int = 1) -> Assembly:
    """Stochastic particle gradient descent: fresh samples (`OnePass(problem)`) and decaying step sizes.

    Args:
      step_size: of the first step.
      halving: number of steps after which it is 2^-power of that.
      power: of the decay: step_size / (1 + t / halving)^power, in [0, 1].
      batch: samples a step.

    Raises:
      InputError: a value out of range.

    Source: Nitanda & Suzuki, arXiv:1712.05438 (2017).
    """
    if not 0 <= power <= 1:
        raise InputError(f"power={power} must lie in [0, 1]")
    schedule = Decaying(as_positive(step_size, "step_size"), as_positive(halving, "halving"), power)
    return Assembly(schedule, Minibatch(batch))


def stable_step_size(problem: MeanFieldProblem, W: jax.Array | None = None) -> float:
    """Largest stable step of full-gradient dynamics: 2 / (lambda_max(K H) + 2 lam1).

    K_ik = (1/n) mean_j grad h_j(x_i) . grad h_j(x_k) is how the outputs move, H the losses' curvatures at the outputs.
    Beyond it the network's outputs oscillate while nothing overflows; from 1 / lam1 on the particles diverge.

    Args:
      problem: a MeanFieldProblem.
      W: (N, p) particles; those of a start unless given. At most 200 particles and 512 rows are used.
    """
    particles = problem.initial(jax.random.key(0)) if W is None else W
    n = len(problem.X)
    few = np.linspace(0, n - 1, min(ROWS, n)).astype(int)
    return float(_edge(problem, particles[:PARTICLES], jnp.asarray(few)))


@eqx.filter_jit
def _edge(problem: MeanFieldProblem, W: jax.Array, rows: jax.Array) -> jax.Array:
    X, y = problem.X[rows], problem.y[rows]
    slopes = jax.vmap(jax.vmap(jax.grad(problem.neuron), (None, 0)), (0, None))(W, X)  # (N, n, p)
    flat = jnp.swapaxes(slopes, 0, 1).reshape(len(X), -1)
    curvature = jax.vmap(jax.grad(jax.grad(problem.loss)))(problem.model(W, X), y)
    root = jnp.sqrt(jnp.maximum(curvature, 0))
    kernel = root[:, None] * (flat @ flat.T) * root / (len(X) * len(W))
    return 2 / (jnp.linalg.eigvalsh(kernel)[-1] + 2 * problem.lam1)


def _check_stable(problem: MeanFieldProblem, step_size: ArrayLike | Schedule) -> None:
    if isinstance(step_size, Schedule) or not is_known(step_size) or not is_known(problem.lam1):
        return
    largest = float(np.max(np.asarray(step_size)))
    edge = stable_step_size(problem)
    if largest >= edge:
        raise InputError(
            f"step_size={largest:.4g} is beyond the stability edge {edge:.4g} at the start",
            why="the network's outputs would oscillate or diverge",
            do=f"use at most {edge / 2:.2g}",
        )
