"""Variance reduction takes Langevin dynamics to a given KL in sqrt(n) gradients instead of n; when hot, SGLD wins (E2).

Dots: chains on a sum of n quadratics, and the gradients, counted one by one, until the KL divergence of their moments
is eps. Line: the exact recursions. The number of steps of GLD and SVRG-LD hardly depends on n; a step costs n gradients
with GLD and about 3 sqrt(n) with SVRG-LD. The errors of SARAH-LD last for a period: looked at before a refresh, it is
seen to need about n^(2/3) at these n, on the way to sqrt(n). SGLD does not depend on n at all: it wins where the
temperature is high or n is large, on one side of the boundary of the phase diagram (`riron.sweep("svrg-langevin")`). At
the temperature 1/n of a posterior it needs more than GLD.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import xarray as xr

from ..dynamics import Minibatch, gld, sarah_ld, sgld, svrg_ld
from ..lab.running import simulate
from ..lab.verdict import Equal, Ordered, Rate
from ..lab.verdict.mutations import Instead
from ..problems import QuadraticSum
from ..theory.langevin_cost import least_cost
from ..theory.langevin_laws import quadratic_langevin, sum_moments
from .base import Study, param

METHODS = {"GLD": "gld", "SGLD": "sgld", "SVRG-LD": "svrg", "SARAH-LD": "sarah"}
DYNAMICS = {"GLD": gld, "SGLD": sgld, "SVRG-LD": svrg_ld, "SARAH-LD": sarah_ld}
LOOKS = 40  # at most, where there is no refresh to look before
MARGIN = 0.4  # the step sizes are the best for this share of eps


def gradients_needed(
    *, curvature, curvature_variance, slope_variance, slope_curvature, temperature, n, sampling, eps, start, settings
):
    """The lines: gradients until the KL of the moments is eps, for each method at its step size and batch."""
    parts = (curvature, curvature_variance, slope_variance, slope_curvature)
    needed = []
    for name, method in METHODS.items():
        best, steps = settings[name], looks(name, settings[name])
        line = quadratic_langevin(
            *parts,
            method=method,
            step_size=best.step_size,
            temperature=temperature,
            n=n,
            batch=best.batch,
            period=best.batch,
            sampling=sampling,
            start=start,
            record=xr.DataArray(steps, {"step": steps}, "step"),
        )
        needed.append(crossing(line.gradient_evaluations.values, line.gaussian_kl.values, eps))
    return by_method(np.array(needed))


def no_slopes(**told):
    """A wrong line: the slopes at the minimum do not differ, so that SGLD has no noise there."""
    return gradients_needed(**told | {"slope_variance": 0 * told["slope_variance"]})


def looks(name, best):
    """Steps at which the KL is looked at: before each refresh, or often, until well after the expected time."""
    refreshed = name in ("SVRG-LD", "SARAH-LD")
    stride = best.batch if refreshed else max(round(best.steps / LOOKS), 1)
    return np.arange(stride, 1.3 * best.steps + stride, stride).astype(int)


def crossing(counts, kl, eps):
    """The count at which a KL falls to eps, linear in log KL between two looks; nan if it does not."""
    k = int(np.argmax(kl <= eps))
    if k == 0:
        return np.nan
    share = np.log(kl[k - 1] / eps) / np.log(kl[k - 1] / max(kl[k], eps / 10))
    return counts[k - 1] + min(share, 1.0) * (counts[k] - counts[k - 1])


def by_method(needed):
    """Gradients (..., method) as one variable along `method`, and each method's own for its exponent."""
    lead = ("seed",) if needed.ndim == 2 else ()
    names = {"gld_gradients": 0, "sgld_gradients": 1, "svrg_gradients": 2, "sarah_gradients": 3}
    own = {name: (lead, needed[..., k]) for name, k in names.items()}
    return xr.Dataset({"gradient_evaluations": ((*lead, "method"), needed), **own}, {"method": list(METHODS)})


@dataclass(frozen=True, kw_only=True)
class SVRGLangevin(Study):
    cites = ("kinoshita2022", "vempala2019", "welling2011")
    sizes = {"quick": (256, 1024, 4096), "paper": (256, 512, 1024, 2048, 4096, 8192)}
    compare = (
        Equal("gradient_evaluations", rates=(), resolution=0.15),
        Rate("gld_gradients", exponent=1.0, atol=0.1),
        Rate("svrg_gradients", exponent=0.5, atol=0.1),
        Rate("sarah_gradients", exponent=2 / 3, atol=0.15),
        Rate("sgld_gradients", exponent=0.0, atol=0.1),
        Ordered("SVRG-LD", "GLD", "gradient_evaluations"),
    )
    mutations = {"temperature": 1.5, "curvature_variance": 2.0, "no_slopes": Instead(no_slopes)}
    diagram = {
        "size": 4096,
        "over": {"inverse_temperature": (1.0, 4.0, 16.0, 64.0), "samples": (256, 1024, 4096)},
        "parameters": {"chains": 64},
        "observable": "svrg_over_sgld",
    }
    labels = {
        "size": "n",
        "samples": "n",
        "inverse_temperature": "inverse temperature",
        "svrg_over_sgld": "gradients of SVRG-LD / of SGLD",
    }

    inverse_temperature: float = param(20.0, 1e-3, 1e9, "gamma of the target exp(-gamma F)")
    accuracy: float = param(0.001, 1e-9, 10.0, "KL to reach, for each coordinate")
    coordinates: int = param(32, 1, 10000, "number of coordinates")
    distance: float = param(3.0, 0.0, 100.0, "start, in each coordinate, from the minimum")
    samples: int = param(0, 0, 1000000, "number n of terms, 0 for the size")
    chains: int = param(8, 1, 100000, "chains in the group that a seed is")

    @lru_cache(maxsize=16)  # noqa: B019  dots and line share one sum
    def terms(self, n):
        """Curvatures (n, d), exponential, of means from 1 to 4, and slopes around normal centres."""
        rng, d = np.random.default_rng([self.seed, n]), self.coordinates
        h = rng.exponential(size=(n, d)) * np.linspace(1, 4, d)
        return h, h * rng.normal(size=h.shape)

    def told(self, n, share=1.0):
        """What decides the law, but for the method, and a share of eps as the goal."""
        goal = {"eps": share * self.accuracy * self.coordinates, "start": self.distance}
        return {"temperature": 1 / self.inverse_temperature, "n": n, "sampling": "with-replacement", **goal}

    @lru_cache(maxsize=16)  # noqa: B019  found once for dots and line
    def settings(self, n):
        """The step size of each method; batch and period sqrt(n), SGLD's batch a power of 2.

        They are the best for a share of eps: at the best step for eps the KL meets eps at a grazing angle, and the
        time hangs on the luck of the chains.
        """
        root, moments = round(np.sqrt(n)), sum_moments(*self.terms(n))
        batches = {"sgld": [2**k for k in range(12) if 2**k <= n / 4], "gld": [n]}
        find = lambda method: least_cost(
            moments, method=method, batches=batches.get(method, [root]), slack=0.3, **self.told(n, MARGIN)
        )
        return {name: find(method) for name, method in METHODS.items()}

    def simulate(self, d, *, seeds):
        n = self.samples or d
        problem, needed = QuadraticSum(*self.terms(n), self.distance), []
        for name, best in self.settings(n).items():
            record = looks(name, best)
            told = {"record": record, "seed": self.seed}
            shape: dict[str, Any] = {"step_size": best.step_size, "temperature": 1 / self.inverse_temperature}
            if name == "GLD":  # cheap chains, so more of them
                runs = simulate(problem, gld(**shape), seeds=8 * seeds * self.chains, **told)
                moments = self.in_groups(runs, seeds)
            else:
                # The batch is the period of those that have one.
                dynamics = DYNAMICS[name](**shape, batch=Minibatch(best.batch))
                runs = simulate(problem, dynamics, seeds=seeds * self.chains, **told)
                moments = self.in_groups(runs, seeds)
                # The same noise drives chains without a minibatch: the means that are known of those take away most
                # of the luck of the noise.
                same = simulate(self.average(problem), gld(**shape), seeds=seeds * self.chains, **told)
                moments += self.known(best.step_size, problem, record) - self.in_groups(same, seeds)
            if not runs.attrs["complete"]:
                return runs
            mean, square = moments
            needed.append(self.first_time(mean, square, problem, runs.gradient_evaluations.values[0]))
        return by_method(np.stack(needed, axis=1)).assign_attrs(complete=1)

    def average(self, problem):
        """The sum as one term: the same full gradient, in arrays that do not grow with n."""
        h, b = (np.asarray(part, np.float64).mean(axis=0, keepdims=True) for part in problem.data)
        return QuadraticSum(h, b, self.distance)

    def in_groups(self, runs, seeds):
        """First and second moments of each group of chains (2, seeds, step, coordinate)."""
        x = runs.displacement.values.astype(np.float64)
        x = x.reshape(seeds, -1, *x.shape[1:])
        return np.stack([x.mean(axis=1), (x**2).mean(axis=1)])

    def known(self, step_size, problem, steps):
        """Means of chains x <- a x + normal noise, started at a point: (2, 1, step, coordinate)."""
        a = 1 - step_size * np.asarray(problem.data.X, np.float64).mean(axis=0)
        mean = self.distance * a ** steps[:, None]
        noise = 2 * step_size / self.inverse_temperature * (1 - a ** (2 * steps[:, None])) / (1 - a**2)
        return np.stack([mean, mean**2 + noise])[:, None]

    def first_time(self, mean, square, problem, counts):
        """(seeds,) pseudo-values of the gradients at which the KL of the moments of all chains falls to eps.

        The jackknife leaves one group out in turn: the time is not a mean over groups, for the moments of a few chains
        say little of their KL.
        """
        S, eps = len(mean), self.accuracy * self.coordinates
        precision = np.asarray(problem.data.X, np.float64).mean(axis=0) * self.inverse_temperature

        def kl(mean, square):
            ratio = precision * (square - mean**2)
            return 0.5 * (ratio - 1 - np.log(ratio) + precision * mean**2).sum(axis=-1)

        leave = lambda part: (part.sum(axis=0) - part) / (S - 1)
        whole, without = kl(mean.mean(axis=0), square.mean(axis=0)), kl(leave(mean), leave(square))
        bias = (S - 1) * (without.mean(axis=0) - whole)
        parts = np.array([crossing(counts, curve - bias * S / (S - 1), eps) for curve in without])
        return S * crossing(counts, whole - bias, eps) - (S - 1) * parts

    def predict(self, d):
        n = self.samples or d
        law = sum_moments(*self.terms(n))._asdict()
        return partial(gradients_needed, **law, **self.told(n), settings=self.settings(n))

    def observe(self, dataset):
        """Who wins, and the costs of the two."""
        ratio = dataset.svrg_gradients / dataset.sgld_gradients
        return xr.Dataset({"svrg_over_sgld": ratio}).assign(dataset[["svrg_gradients", "sgld_gradients"]])

    def boundary(self, over):
        """Where SVRG-LD and SGLD need the same number of gradients."""
        if set(over) != {"inverse_temperature", "samples"}:
            return None
        gammas = np.geomspace(min(over["inverse_temperature"]), max(over["inverse_temperature"]), 5)
        numbers = np.unique(np.geomspace(min(over["samples"]), max(over["samples"]), 4).astype(int))
        crossing = []
        for n in numbers:
            logs = []
            for gamma in gammas:
                best = type(self)(**(self.parameters() | {"inverse_temperature": gamma})).settings(int(n))
                logs.append(np.log(best["SVRG-LD"].gradients / best["SGLD"].gradients))
            crossing.append(np.exp(np.interp(0.0, -np.array(logs), np.log(gammas))))
        return {"samples": numbers.astype(float), "inverse_temperature": np.array(crossing)}, "equal cost"
