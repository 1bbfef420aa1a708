"""The law of the parameters: each coordinate is Gaussian given that of the teacher. How far samples are from it."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ...checks import as_positive
from ...errors import InputError
from ...problems.teacher_student import TeacherStudent
from .solving import solve


def wasserstein_to_normal(samples: jax.Array, sd: jax.Array | float) -> jax.Array:
    """W2 distance of an empirical law to N(0, sd^2), exactly.

    Args:
      samples: (n,), each of weight 1/n.
      sd: standard deviation, > 0.

    Returns: the distance, in units of the samples.

    Source: on the line the optimal coupling is monotone, so W2^2 is an integral over quantiles.
    """
    n = len(samples)
    inner = jax.scipy.special.ndtri(jnp.arange(1, n) / n)
    density = jnp.concatenate([jnp.zeros(1), jnp.exp(-(inner**2) / 2) / jnp.sqrt(2 * jnp.pi), jnp.zeros(1)])
    mean_quantiles = density[:-1] - density[1:]  # of each of n equal slices of the normal law, times 1/n
    squared = jnp.mean(samples**2) - 2 * sd * jnp.sort(samples) @ mean_quantiles + sd**2
    return jnp.sqrt(jnp.maximum(squared, 0))


def parameter_law(line: xr.Dataset, problem: TeacherStudent) -> tuple[np.ndarray, np.ndarray]:
    """theta_i = slope theta*_i + sd g_i: slope and sd along the record of a line of `solve`, one student, one teacher.

    Raises: InputError for more units.
    """
    if not problem.plain:
        raise InputError("the law of the parameters is written out for one student and one teacher")
    rho = float(problem.teacher_gram[0, 0])
    q, Q = np.asarray(line.overlap), np.asarray(line.self_overlap)
    return q / rho, np.sqrt(np.maximum(Q - q**2 / rho, 0))


def sampling_floor(
    problem: TeacherStudent, *, d: int, scale: float = 1.0, draws: int = 1000, key: int = 0, **options
) -> xr.Dataset:
    """W2 distance of d independent draws from the law of `theta_i - slope theta*_i` to that law, on average.

    Parameters that follow the theory are as far from it as independent draws are, not at distance 0.

    Args:
      problem, options: as in `solve`; one student and one teacher.
      d: number of draws, the dimension of the run beside it.
      scale: factor on the standard deviation (other than 1 for a wrong line).
      draws: samples that are averaged.
      key: a whole number.

    Returns: Dataset with wasserstein and its `_stderr` on the record's axis.
    """
    scale, floor = as_positive(scale, "scale"), normal_floor(int(d), int(draws), key)
    line = solve(problem, key=key, **options)
    _, sd = parameter_law(line, problem)
    axis, (mean, error) = line.train_loss.dims, floor["wasserstein"]
    variables = {"wasserstein": (axis, scale * sd * mean), "wasserstein_stderr": (axis, scale * sd * error)}
    return xr.Dataset(variables, line.coords, {"theory": "riron.theory.dmft.sampling_floor"})


def shape_distance(samples: jax.Array) -> jax.Array:
    """W2 distance to N(0, 1) of samples (n,) shifted and scaled to the mean 0 and the variance 1: of their shape."""
    return wasserstein_to_normal((samples - jnp.mean(samples)) / jnp.std(samples), 1.0)


@lru_cache(maxsize=32)
def normal_floor(d: int, draws: int = 1000, key: int = 0) -> dict[str, tuple[float, float]]:
    """Of d independent draws of N(0, 1): W2 distance to that law, and that of their shape; each with standard error."""

    def one(key):
        samples = jax.random.normal(key, (d,))
        return jnp.stack([wasserstein_to_normal(samples, 1.0), shape_distance(samples)])

    with jax.enable_x64(True):
        found = np.asarray(jax.lax.map(one, jax.random.split(jax.random.key(key), draws), batch_size=64))
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / draws**0.5
    return {name: (mean[k], error[k]) for k, name in enumerate(("wasserstein", "shape"))}
