"""The step sizes that leave SGD on n = delta d samples with the least test loss, by differentiating the sweep."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.optimize import minimize

from ...checks import as_positive
from ...errors import InputError
from ...problems.teacher_student import TeacherStudent
from . import drawing
from .clocks import ClockName
from .past import plan
from .reduced import reduced
from .setting import settle
from .solving import inputs_of_sweep, paths_in_a_group
from .sweep import Group, Law, sweep

LEAST, MOST = 1e-2, 30.0  # constant factors that are searched
AROUND = (0.01, 3.0)  # factors of a schedule, relative to the best constant: beyond, chance is fitted near the edge
BATCHES = 30.0  # factors on batches, up to what the number of gradients makes of them
CONSTANTS = 13
DIVERGED = 1e6
DIFFERENCE = 1e-3  # of the logarithm of a factor, where derivatives are not finite


def best_schedule(
    problem: TeacherStudent,
    *,
    delta: float,
    horizon: float,
    dt: float,
    knots: int = 8,
    over: tuple[str, ...] = ("step_size",),
    gradients: float | None = None,
    clock: ClockName | None = None,
    batch_fraction: float | None = None,
    ridge: float | None = None,
    paths: int = 4096,
    groups: int = 4,
    blocks: tuple[int, int] = (16, 4),
    key: int = 0,
) -> xr.Dataset:
    """Factors on the step size (and the batch size), log-linear between knots, with the least test loss at the horizon.

    The number of steps is that of the run, and so is the number of gradients, unless given. Derivatives run through the
    whole sweep of `solve`, all of its random numbers held fixed; for batches with a normal law of the same variance in
    place of the coin that chooses a sample. What is reported is predicted with the coin.

    Args:
      problem, delta, clock, batch_fraction, ridge, blocks, key: as in `solve`, for runs as they are ("none",
        "bernoulli", "poisson" or "shuffle"; no limit of small steps); smooth losses.
      horizon, dt: time at the end and of a step at factor 1.
      knots: evenly spread over the run.
      over: "step_size", or "step_size" and "batch" (clock "bernoulli").
      gradients: all gradients of the run, per sample of the data (passes); batch_fraction x steps unless given. Where
        batches may change, batch_fraction only says this.
      paths, groups: as in `solve`.

    Returns: Dataset with step_factor, and batch_factor on `batch_fraction` where batches may change (dim `t`, the
      knots, at times of factor 1, log-linear between), test_loss at the end with them, constant_factor and
      constant_test_loss of the best constant, from which the search starts: test_loss is never above it. Both are
      predictions on fresh sample paths, which the search has not seen, with `test_loss_stderr`, and `gain_stderr` of
      their difference.

    Raises: InputError for fewer than two knots, a limit of small steps, or a run that diverges at every constant.
    """
    if int(knots) != knots or knots < 2:
        raise InputError(f"knots={knots} must be a whole number >= 2")
    if ridge is None:
        ridge = float(problem.ridge) * len(problem.spectrum) if isinstance(problem, TeacherStudent) else 0.0
    horizon = dt * np.floor(as_positive(horizon, "horizon") / as_positive(dt, "dt") + 1e-9)
    batches = "batch" in over
    if set(over) - {"step_size", "batch"} or "step_size" not in over:
        raise InputError(f"over={over!r} is not known", do='give ("step_size",) or ("step_size", "batch")')
    if gradients is not None and batch_fraction is not None:
        batch_fraction = as_positive(gradients, "gradients") / round(horizon / dt)
    setting, _, _ = settle(
        delta=delta, horizon=horizon, dt=dt, clock=clock, temperature=0.0, fraction=batch_fraction, ridge=ridge,
        momentum=0.0, schedule=None, record=[horizon], asked=(),
    )  # fmt: skip
    if setting.limit:
        raise InputError(f"clock='{clock}' is a limit of small steps", do="optimise a run as it is")
    if batches and setting.kernel != "bernoulli":
        raise InputError(f"batches cannot change with clock='{setting.kernel}'", do='use clock="bernoulli"')
    times = np.linspace(0, horizon, knots)
    with jax.enable_x64(True):
        small = reduced(problem)
        m, K = small.start_overlap.shape
        planned = plan(setting.steps + 1, blocks)

        def paths_of(key: jax.Array, clock: str) -> TestLoss:
            chances = drawing.draws(key, groups, paths_in_a_group(paths, groups), m, m + K)
            law, group, rows = inputs_of_sweep(small, setting, chances, planned)
            sizes = (planned.capacity, 0)
            return TestLoss(small, law, group, rows, jnp.asarray(times), law.rate.dt, clock, sizes)

        seen, unseen = jax.random.split(jax.random.key(key))
        test = paths_of(seen, "smoothed" if batches else setting.kernel)
        constants = np.geomspace(LEAST, MOST, CONSTANTS)
        losses = [np.mean(test.values(np.full(knots, np.log(c)))) for c in constants]
        if not np.min(losses) < DIVERGED:
            raise InputError(f"dt={dt:g} diverges with every factor from {LEAST:g} to {MOST:g}", do="use a smaller dt")
        start = np.log(finest(lambda log: float(np.mean(test.values(np.full(knots, log)))), np.log(constants), losses))
        limits = [(start + np.log(AROUND[0]), start + np.log(AROUND[1]))] * knots
        limits += [(-np.log(BATCHES), np.log(BATCHES))] * knots if batches else []
        begin = np.append(np.full(knots, start), np.zeros(knots if batches else 0))
        found = minimize(test.objective, begin, jac=True, method="L-BFGS-B", bounds=limits)
        test = paths_of(unseen, setting.kernel)
        constant, best = test.values(begin), test.values(found.x)
    logs = found.x
    if best.mean() > constant.mean():
        logs, best = begin, constant
    error = lambda values: values.std(ddof=1) / len(values) ** 0.5
    variables = {
        "step_factor": ("t", np.exp(logs[:knots])),
        "test_loss": ((), best.mean()),
        "test_loss_stderr": ((), error(best)),
        "constant_factor": ((), np.exp(start)),
        "constant_test_loss": ((), constant.mean()),
        "gain_stderr": ((), error(constant - best)),
    }
    if batches:
        steps = setting.dt * np.arange(setting.steps)
        weights = np.exp(np.interp(steps, times, logs[knots:]))
        variables["batch_factor"] = ("t", np.minimum(np.exp(logs[knots:]) / weights.mean(), 1 / setting.fraction))
    attrs = {"theory": "riron.theory.dmft.best_schedule", "clock": setting.kernel, "dt": setting.dt, "delta": delta}
    return xr.Dataset(variables, {"t": times}, attrs)


class TestLoss(eqx.Module):
    """The predicted test loss at the end, as a function of logarithms of factors at the knots (steps, then batches)."""

    __test__ = False  # no test, whatever pytest thinks of its name

    problem: TeacherStudent
    law: Law
    groups: Group
    rows: Any
    knots: jax.Array
    dt: jax.Array
    clock: str = eqx.field(static=True)
    sizes: tuple[int, int] = eqx.field(static=True)

    def values(self, logs: np.ndarray) -> np.ndarray:
        """Of each group."""
        return np.array([float(v) for v in self.each(end_loss, logs)])

    def objective(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        """Logarithm of the mean over the groups, and its derivative."""
        found = self.each(end_loss_and_slope, logs)
        value = np.mean([float(v) for v, _ in found])
        slope = np.mean([np.asarray(s) for _, s in found], axis=0)
        if not np.isfinite(slope).all() and value < DIVERGED:
            around = lambda step: np.mean(self.values(logs + step)) - np.mean(self.values(logs - step))
            slope = np.array([around(row) for row in DIFFERENCE * np.eye(len(logs))]) / (2 * DIFFERENCE)
        return float(np.log(value)), np.nan_to_num(slope) / value

    def each(self, function, logs: np.ndarray) -> list:
        """`function` of each group."""

        def one(k: int):
            alone = eqx.tree_at(lambda t: t.groups, self, jax.tree.map(lambda a: a[k], self.groups))
            return function(jnp.asarray(logs), alone)

        with jax.enable_x64(True):
            return [jax.block_until_ready(one(k)) for k in range(len(self.groups.F))]


def loss_of(logs: jax.Array, test: TestLoss) -> jax.Array:
    steps = test.dt * jnp.arange(len(test.law.factors))
    knots = len(test.knots)
    factors = jnp.exp(jnp.interp(steps, test.knots, logs[:knots]))
    law = test.law._replace(factors=factors)
    if len(logs) > knots:  # the last entry belongs to no step of the run
        shares = shares_of(logs[knots:], test.knots, steps[:-1], law.rate.fraction)
        law = law._replace(shares=jnp.append(shares, shares[-1]))
    points, _, _ = sweep(test.problem.sample_loss, law, test.groups, test.rows, test.clock, False, test.sizes)
    loss = test.problem.measure_overlaps(points.self_overlap[-1], points.overlap[-1])["test_loss"]
    return jnp.where(loss < DIVERGED, loss, DIVERGED)  # also where it is not a number


def shares_of(logs: jax.Array, knots: jax.Array, steps: jax.Array, mean: jax.Array | float) -> jax.Array:
    """Shares of the samples in each step, with the mean over the run given, at most 1."""
    weights = jnp.exp(jnp.interp(steps, knots, logs))
    return jnp.minimum(mean * weights / jnp.mean(weights), 1.0)


end_loss = eqx.filter_jit(loss_of)
end_loss_and_slope = eqx.filter_jit(jax.value_and_grad(loss_of))


def finest(loss, logs: np.ndarray, losses: list) -> float:
    """exp of the best log factor: by golden sections between the neighbours of the best of the grid."""
    k = int(np.argmin(losses))
    low, high = logs[max(k - 1, 0)], logs[min(k + 1, len(logs) - 1)]
    golden = (5**0.5 - 1) / 2
    tried = {float(logs[k]): losses[k]}
    ask = lambda log: tried.setdefault(float(log), loss(log))
    a, b = high - golden * (high - low), low + golden * (high - low)
    for _ in range(8):
        if ask(a) < ask(b):
            high, b = b, a
            a = high - golden * (high - low)
        else:
            low, a = a, b
            b = low + golden * (high - low)
    return float(np.exp(min(tried, key=lambda log: tried[log])))
