"""The noiseless mean-field flow of infinitely many one-parameter neurons, by characteristics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..checks import as_positive
from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem
from .gibbs_grid import in_float64


def particle_flow_law(
    problem: MeanFieldProblem,
    *,
    step_size: float,
    record: xr.DataArray,
    start_sd: float | None = None,
    ridge: float | None = None,
    nodes: int = 401,
) -> xr.Dataset:
    """Explicit steps of the Wasserstein gradient flow of risk + lam1 E|w|^2, from a Gaussian law.

    The continuity equation carries every point of the start along its characteristic. Integrals over the start are sums
    over a grid with Gaussian weights, which are exact to rounding as long as the map stays smooth.

    Args:
      problem: a MeanFieldProblem whose neuron has one parameter.
      step_size: eta.
      record: labelled steps.
      start_sd: of the law at the start N(0, start_sd^2); the reference's unless given.
      ridge: coefficient of |w|^2 / 2; 2 lam1 unless given.
      nodes: of the grid.

    Returns:
      Dataset on the record's axis: train_loss, and second_moment = E|w|^2.

    Raises:
      InputError: a neuron of several parameters.

    Source: Mei, Montanari & Nguyen, PNAS 2018 (mei2018).
    """
    if problem.dim != 1:
        raise InputError(f"the neuron has {problem.dim} parameters", do="characteristics are summed for neurons of one")
    sd = float((problem.lam2 / (2 * problem.lam1)) ** 0.5) if start_sd is None else as_positive(start_sd, "start_sd")
    w = np.linspace(-9 * sd, 9 * sd, nodes)
    weights = np.exp(-(w**2) / (2 * sd**2))
    steps = np.asarray(record.values, int)
    coefficient = 2 * float(problem.lam1) if ridge is None else ridge
    with jax.enable_x64(True):
        start = jnp.asarray(w)[:, None], jnp.asarray(weights / weights.sum())
        numbers = jnp.asarray(as_positive(step_size, "step_size")), jnp.asarray(coefficient)
        path = _flow(in_float64(problem), *start, *numbers, int(steps.max()) + 1)
        found = {name: (record.dims, np.asarray(values)[steps]) for name, values in path.items()}
    return xr.Dataset(found, record.coords)


@eqx.filter_jit
def _flow(problem, w, weights, step_size, ridge, steps):
    def step(w, _):
        outputs = problem.features(w)
        f = weights @ outputs
        g = problem.slopes(f)
        force = jax.vmap(jax.grad(lambda v: problem.potential(g, v[None])[0]))(w)
        found = {"train_loss": jnp.mean(problem.losses(f)), "second_moment": weights @ jnp.sum(w**2, axis=1)}
        return w - step_size * (force + ridge * w), found

    return jax.lax.scan(step, w, length=steps)[1]
