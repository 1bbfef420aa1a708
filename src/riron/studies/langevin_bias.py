"""Langevin dynamics with minibatch gradients ends beside its target, by exactly what its recursion says (E1).

On a sum of quadratics the second moments and the KL divergence of GLD, SGLD, SVRG-LD and SARAH-LD have exact lines,
step by step, minibatch noise included. Beside them a mixture of two normal laws in one dimension, where the law of the
unadjusted algorithm is found by its transition density. A seed is a group of chains, so that a group has a KL.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..dynamics import gld, sarah_ld, sgld, svrg_ld, ula
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..lab.verdict.mutations import Instead
from ..problems import Chains, LogDensity, QuadraticSum
from ..theory.langevin_laws import quadratic_langevin, sum_moments
from ..theory.ula_on_a_grid import ula_on_a_grid
from .base import Study, param

METHODS = {"GLD": "gld", "SGLD": "sgld", "SVRG-LD": "svrg", "SARAH-LD": "sarah"}
STEPS = np.array([1, 2, 4, 8, 16, 32])
CURVATURES = np.array([1.0, 0.6, 0.3])
DISTANCE, LEAN = 2.0, 0.25  # of the modes of the mixture from 0, and half the log of the ratio of their weights
GRID = np.linspace(-10, 10, 501)


def mixture(x):
    """log of e^LEAN N(x; 2, 1) + e^-LEAN N(x; -2, 1), up to a constant."""
    return -(x**2) / 2 + jnp.logaddexp(DISTANCE * x + LEAN, -DISTANCE * x - LEAN)


def mixture_slope(x):
    return x - DISTANCE * np.tanh(DISTANCE * x + LEAN)


def every_method(
    *,
    curvature,
    curvature_variance,
    slope_variance,
    slope_curvature,
    step_size,
    temperature,
    record,
    start,
    **minibatch,
):
    """The lines of all methods side by side, and the mixture's."""
    parts = (curvature, curvature_variance, slope_variance, slope_curvature)
    shared = {"step_size": step_size, "temperature": temperature, "record": record, "start": start, **minibatch}
    lines = [quadratic_langevin(*parts, method=method, **shared) for method in METHODS.values()]
    two = ula_on_a_grid(mixture_slope, step_size=step_size, grid=GRID, start=1.0, record=record)
    return side_by_side([line[["second_moment", "gaussian_kl"]] for line in lines], two)


def side_by_side(runs, two):
    joined = xr.concat(runs, "method", combine_attrs="drop_conflicts").assign_coords(method=list(METHODS))
    return joined.assign(mixture_mean=two.first_moment, mixture_square=two.second_moment)


@dataclass(frozen=True, kw_only=True)
class LangevinBias(Study):
    cites = ("vempala2019", "welling2011", "kinoshita2022")
    sizes = {"quick": (8, 32), "paper": (8, 32, 128, 512)}
    compare = (
        Equal("second_moment", rates=()),
        Equal("gaussian_kl", rates=(), resolution=0.3),
        Equal("mixture_mean", rates=()),
        Equal("mixture_square", rates=()),
    )
    mutations = {"sampling": Instead("with-replacement"), "curvature_variance": 0.0, "temperature": 1.1}
    labels = {"size": "n", "gaussian_kl": "KL of the normal law with these moments"}

    step_size: float = param(0.6, 1e-4, 1.9, "step size, in 1 / the largest mean curvature")
    temperature: float = param(0.5, 1e-6, 1e6, "T of the target exp(-F / T)")
    batch_fraction: float = param(0.5, 1e-6, 1.0, "batch size over number of samples")
    period: int = param(4, 1, 10000, "steps between full gradients of SVRG-LD and SARAH-LD")
    distance: float = param(1.0, 0.0, 100.0, "start, in each coordinate, from the minimum")
    chains: int = param(192, 8, 100000, "chains in the group that a seed is")

    def batch(self, n):
        return max(round(self.batch_fraction * n), 1)

    @lru_cache(maxsize=8)  # noqa: B019  dots and line share one sum
    def terms(self, n):
        """Curvatures (n, d) of the given means and heavy tails, and slopes."""
        rng = np.random.default_rng([self.seed, n])
        h = rng.gamma(0.5, size=(n, len(CURVATURES)))
        h *= CURVATURES / h.mean(axis=0)
        return h, h * rng.normal(size=h.shape) + rng.normal(size=h.shape)

    def record(self):
        return xr.DataArray(STEPS, {"step": STEPS}, "step")

    def simulate(self, n, *, seeds):
        told = {"record": self.record(), "seeds": seeds * self.chains, "seed": self.seed}
        eta, T, B, m = self.step_size, self.temperature, self.batch(n), self.period
        dynamics = [
            gld(step_size=eta, temperature=T),
            sgld(step_size=eta, temperature=T, batch=B),
            svrg_ld(step_size=eta, temperature=T, batch=B, period=m),
            sarah_ld(step_size=eta, temperature=T, batch=B, period=m),
        ]
        h, b = self.terms(n)
        problem = QuadraticSum(h, b, self.distance)
        runs = [self.in_groups(simulate(problem, method, **told), h) for method in dynamics]
        two = simulate(Chains(LogDensity(mixture, 1.0)), ula(step_size=self.step_size), **told)
        groups = two.position.values.reshape(seeds, self.chains, -1).astype(np.float64)
        moments = {"first_moment": groups.mean(axis=1), "second_moment": (groups**2).mean(axis=1)}
        return side_by_side(runs, xr.Dataset({name: (("seed", "step"), value) for name, value in moments.items()}))

    def in_groups(self, runs, h):
        """Second moments of each group of chains, and its KL freed of the bias of few chains by a jackknife."""
        x = runs.displacement.values.astype(np.float64)  # (seeds * chains, step, coordinate)
        x = x.reshape(-1, self.chains, *x.shape[1:])
        precision, G = h.mean(axis=0) / self.temperature, self.chains

        def kl(mean, square, count):
            ratio = precision * (square - mean**2) * count / (count - 1)
            return 0.5 * (ratio - 1 - np.log(ratio) + precision * mean**2).sum(axis=-1)

        mean, square = x.mean(axis=1), (x**2).mean(axis=1)
        leave = lambda whole, part: (G * whole[:, None] - part) / (G - 1)
        without = kl(leave(mean, x), leave(square, x**2), G - 1).mean(axis=1)
        variables = {
            "second_moment": (("seed", "step", "coordinate"), square),
            "gaussian_kl": (("seed", "step"), G * kl(mean, square, G) - (G - 1) * without),
        }
        return xr.Dataset(variables, {"step": STEPS}, {"complete": runs.attrs["complete"]})

    def predict(self, n):
        told = {"step_size": self.step_size, "temperature": self.temperature, "start": self.distance}
        told |= {"n": n, "batch": self.batch(n), "period": self.period, "sampling": "without-replacement"}
        return partial(every_method, **sum_moments(*self.terms(n))._asdict(), **told, record=self.record())
