"""The plan of a Langevin sampler: exact counts on the quadratic that the problem is at its mode, beside the bound."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import optimize

from ...checks import as_positive
from ...errors import InputError
from ...problems.base import Objective, Problem
from ...theory.langevin_cost import least_cost
from ...theory.langevin_laws import SumMoments
from .plans import LangevinPlan

METHODS = ("gld", "sgld", "svrg", "sarah")
START = 3.0  # standard deviations of the target law
BATCHES = 8
DIMENSIONS = 2000


def plan_langevin(problem: Problem, target: float, *, temperature: float, start: float | None) -> LangevinPlan:
    """See `riron.plan`.

    The terms' Hessians are never stored: their diagonals in the eigenbasis of the mean Hessian come by products.
    """
    with jax.enable_x64(True):
        moments, n = at_the_mode(problem)
    sd = np.sqrt(temperature / moments.curvature)
    begin = START * sd if start is None else np.full(len(sd), as_positive(start, "start"))
    batches = np.unique(np.geomspace(1, n, BATCHES).round().astype(int))
    setting = {"temperature": temperature, "eps": target, "start": begin}
    methods = {}
    for method in METHODS:
        chosen = batches if method == "sgld" else [max(round(n**0.5), 1)]
        methods[method] = least_cost(moments, method=method, n=n, batches=chosen, **setting)._asdict()
    best = min(methods, key=lambda name: methods[name]["gradients"])
    if not np.isfinite(methods[best]["gradients"]):
        raise InputError(f"no method comes within {target:g} in 4000 steps", do="ask for less, or start nearer")
    largest, smallest = float(moments.curvature.max()), float(moments.curvature.min())
    # (n + d sqrt n / eps) (gamma L / alpha)^2 for exp(-gamma F): where F is convex, alpha is gamma times its modulus.
    d = len(sd)
    bound = (n + d * n**0.5 / target) * (largest / smallest) ** 2
    return LangevinPlan(
        target=target,
        status="planned",
        methods=methods,
        best=best,
        bound={"log10_gradient_evaluations": float(np.log10(bound))},
        constants={
            "n": float(n), "d": float(d), "temperature": temperature, "L": largest, "alpha": smallest,
            "start_in_standard_deviations": float(np.max(begin / sd)),
        },
    )  # fmt: skip


def at_the_mode(problem: Problem) -> tuple[SumMoments, int]:
    """Mean Hessian, variances of the terms' Hessians and gradients at the minimum, in the eigenbasis of the former."""
    data = getattr(problem, "data", None)
    if data is None or not len(data):
        raise InputError("the problem has no rows of its own", do="make it with from_arrays(X, y, ...)")
    objective = problem.objective(jax.tree.map(lambda a: a.astype(jnp.float64), data))
    n = objective.n
    if n is None:
        raise InputError("the problem is a stream and not a finite sum", do="make it with from_arrays(X, y, ...)")
    start, unravel = ravel_pytree(jax.tree.map(lambda a: a.astype(jnp.float64), problem.initial(jax.random.key(0))))
    if len(start) > DIMENSIONS:
        raise InputError(f"the model has {len(start)} parameters", do=f"plan for a model of at most {DIMENSIONS}")
    compiled = jax.jit(jax.value_and_grad(lambda v: objective.value(unravel(v))))
    value = lambda v: tuple(np.asarray(part) for part in compiled(v))
    accurate = {"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9}
    found = optimize.minimize(value, np.asarray(start), jac=True, method="L-BFGS-B", options=accurate)
    mode = jnp.asarray(found.x)
    values, vectors = np.linalg.eigh(np.asarray(jax.hessian(lambda v: objective.value(unravel(v)))(mode)))
    if values[0] <= 1e-12 * values[-1]:
        raise InputError("the objective is flat in some direction at its minimum", do="give it a ridge > 0")
    slopes, curvatures = _terms(objective, unravel, mode, jnp.asarray(vectors))
    cross = ((curvatures - curvatures.mean(0)) * (slopes - slopes.mean(0))).mean(0)
    return SumMoments(values, curvatures.var(axis=0), slopes.var(axis=0), cross), n


def _terms(objective: Objective, unravel, mode: jax.Array, vectors: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and second derivative of each term along each eigenvector, (n, d) each."""

    def along(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses = lambda s: objective.losses(unravel(mode + s * v))
        first = lambda s: jax.jvp(losses, (s,), (jnp.ones(()),))[1]
        return jax.jvp(first, (jnp.zeros(()),), (jnp.ones(()),))

    slopes, curvatures = jax.jit(jax.lax.map, static_argnums=0)(along, vectors.T)
    return np.asarray(slopes).T, np.asarray(curvatures).T
