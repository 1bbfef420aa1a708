"""The proximal step of Jordan, Kinderlehrer and Otto for particles of one or two parameters, with exact transport."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from ..checks import as_matrix, as_positive
from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem


class JKOStep(NamedTuple):
    """One proximal step."""

    W: np.ndarray
    """(N, p) the new particles, particle j being where old particle j is transported to."""
    objective: float
    """Risk + lam1 mean |w|^2 of the new particles."""
    distance_squared: float
    """W2^2 of the new and the old particles."""
    matched: bool
    """Whether the particles' own pairing is the optimal transport at the end, as it is for small steps."""


def jko_step(problem: MeanFieldProblem, W: np.ndarray, *, step_size: float, rounds: int = 20) -> JKOStep:
    """argmin over clouds of N equal particles of  risk(mu) + lam1 E|w|^2 + W2^2(mu, mu_k) / (2 step_size).

    It is the implicit step of the noiseless flow. For a fixed pairing the objective is smooth in the particles and is
    minimised by L-BFGS; the pairing is then renewed by exact optimal transport, until it stands still. A cloud of
    points has no entropy: with noise, use `mfld`.

    Args:
      problem: a MeanFieldProblem whose neuron has one or two parameters.
      W: (N, p) particles of mu_k.
      step_size: eta, > 0; no stability edge bounds it.
      rounds: renewals of the pairing at most.

    Raises:
      InputError: more than two parameters, or the package POT is missing.

    Source: Jordan, Kinderlehrer & Otto, SIAM J. Math. Anal. 1998 (jordan1998).
    """
    old, eta = as_matrix(W, "W"), as_positive(step_size, "step_size")
    if old.shape[1] not in (1, 2) or old.shape[1] != problem.dim:
        raise InputError(f"W has {old.shape[1]} columns", do="the proximal step takes neurons of one or two parameters")
    target, new = old.copy(), old.copy()
    with jax.enable_x64(True):
        for _ in range(rounds):
            new = _descend(problem, new, target, eta)
            pairing = optimal_pairing(old, new)
            matched = bool(np.allclose(old[pairing], target))
            target = old[pairing]
            if matched:
                break
        value = float(_objective(problem, jnp.asarray(new)))
    return JKOStep(new, value, float(np.sum((new - target) ** 2)) / len(old), matched)


def optimal_pairing(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(N,) for each new particle the old one that exact optimal transport sends to it."""
    try:
        import ot
    except ImportError:
        raise InputError("the package POT is not installed", do="pip install pot") from None
    weights = np.full(len(old), 1 / len(old))
    plan = ot.emd(weights, weights, ot.dist(new, old), numItermax=1_000_000)
    return np.asarray(plan).argmax(axis=1)


def _descend(problem: MeanFieldProblem, start: np.ndarray, target: np.ndarray, eta: float) -> np.ndarray:
    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W = jnp.asarray(flat.reshape(start.shape))
        loss, gradient = _value_and_gradient(problem, W, jnp.asarray(target), jnp.asarray(eta))
        return float(loss), np.asarray(gradient, np.float64).ravel()

    found = minimize(value, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-10})
    return found.x.reshape(start.shape)


@eqx.filter_jit
def _objective(problem: MeanFieldProblem, W: jax.Array) -> jax.Array:
    return jnp.mean(problem.losses(problem.model(W, problem.X))) + problem.lam1 * jnp.mean(jnp.sum(W**2, axis=1))


@eqx.filter_jit
def _value_and_gradient(problem, W, target, eta):
    cost = lambda W: _objective(problem, W) + jnp.mean(jnp.sum((W - target) ** 2, axis=1)) / (2 * eta)
    return jax.value_and_grad(cost)(W)
