"""The forecast of SGD on a smooth convex loss of given rows (logistic, Huber, softmax): losses, band and error."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_positive, nearest
from ..errors import InputError
from . import block, gaussian_closure, shuffled_closure
from .between_runs import LEVELS, class_error, draw, expected_loss, margin_error, normal_draws, spread
from .gaussian_closure import Gaussian, Rows, Table
from .least_squares_forecast import COARSE, GAIN, LOSSES, SAMPLING, closure_tolerance, stops_of
from .output_moments import SMOOTH, moments_of
from .problem_arrays import Setting
from .spectrum import Spectrum, check_setting
from .step_sizes import StepSizes

FULL = 1000  # parameters K p whose covariance "auto" keeps in full
BLOCK = 400  # parameters on leading directions that it keeps in full beyond that
LARGE = 5e8  # n (K k)^2 above which arrays are float32
CHUNK = 2**22  # numbers in the largest temporary array
NOT_GAUSSIAN = 0.1  # share of what the noise does that the Gaussian closure may miss
LEFT_OUT_OF_BLOCKS = 0.1  # and a covariance full on leading directions only, beyond that
WALK = 12  # factors of two from 1/E|x|^2 within which the best step is sought
PROBE = 128  # held-out rows on which intervals are judged


def convex_sgd(
    spectrum: Spectrum,
    *,
    loss: str = "logistic",
    batch: float,
    step_size: ArrayLike | Callable[[int], float],
    record: xr.DataArray,
    sampling: str = "epochs",
    ridge: float = 0.0,
    momentum: float = 0.0,
    covariance: str = "auto",
    rtol: float = 1e-3,
    errors: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Expected losses of SGD on a smooth convex loss, started at 0, with their spread between runs.

    Parameters are taken as Gaussian: exact for the squared loss, a closure for others.

    Args:
      spectrum: the data, see `Spectrum.of`. Targets: -1 and 1 for logistic and smoothed_hinge, numbers for huber and
        squared, one-hot (or any distribution over classes) for softmax.
      loss: logistic, huber, smoothed_hinge, squared (one output) or softmax.
      batch: rows per step, in [1, n].
      step_size: number, array (one value a step) or function of the step; units of 1/feature^2.
      record: increasing whole steps at which to report, with their axis.
      sampling: "epochs" (shuffled), "with-replacement" or "without-replacement", as in `least_squares_sgd`.
      ridge: penalty ridge/2 |theta|^2, trained against, not part of the losses.
      covariance: "full", "diagonal" (K x K blocks), "block:k" (full on the k leading directions of the rows), or
        "auto": full up to K p = 1 000, beyond it on the 400 / K leading directions.
      rtol: largest relative difference of prediction and correction accepted in one interval of the integrator.
      errors: add *_stderr and *_tolerance, for about as much work again (twice as much for shuffled epochs).
      seed: of the drawn runs that give *_sd, *_quantile and the softmax's test_error.
    Returns: Dataset on the record's axis: train_loss, test_loss, *_sd and *_quantile (dim `quantile`) between runs,
      *_stderr (numerical error of the solver), *_tolerance (relative error of the closure), test_error of classes.
    Raises: InputError for values out of range, targets that do not fit the loss, or momentum.
    Source: Gaussian closure of the moments of SGD (Stein's identity for the contraction), and for epochs the
      leave-one-out closure of `shuffled_sgd`; both checked against simulation in tests/test_convex_forecast.py.
    """
    check_setting(spectrum, batch=batch, ridge=ridge)
    check_targets(spectrum, loss)
    if sampling not in SAMPLING:
        raise InputError(f"sampling={sampling!r} is unknown", do=f"use one of {', '.join(SAMPLING)}")
    if momentum != 0:
        raise InputError(
            f"momentum={momentum} with the {loss} loss", why="the closure has no velocity", do="use momentum=0"
        )
    steps = np.asarray(record.values)
    k = leading(covariance, len(spectrum.eigenvalues), spectrum.outputs)
    closure = "full" if k == len(spectrum.eigenvalues) else f"block:{k}"
    dtype = jnp.float32 if spectrum.n * (k * spectrum.outputs) ** 2 > LARGE else jnp.float64
    with jax.enable_x64(True):
        table = _table(spectrum, k, dtype)
        noise = 1 / batch
        if sampling == "without-replacement":
            noise *= (spectrum.n - batch) / max(spectrum.n - 1, 1)
        sizes = StepSizes.of(step_size, int(steps[-1]))
        epoch = max(int(spectrum.n // batch), 1) if sampling == "epochs" else None
        stops, ends = stops_of(steps, epoch)
        times = (jnp.asarray(epoch or 0, jnp.int64), jnp.asarray(stops), jnp.asarray(ends))
        at = np.searchsorted(stops, steps)

        def solve(tolerance: float, order: int = 2, noise: float = noise) -> list[Gaussian]:
            setting = Setting(sizes, jnp.asarray(noise, dtype), jnp.asarray(ridge, dtype))
            control = (jnp.asarray(tolerance), jnp.asarray(order))
            seen = _solve(table, setting, *times, *control, loss, k, epoch is not None)
            return [jax.tree.map(lambda a, i=i: a[i], seen) for i in at]

        line = solve(as_positive(rtol, "rtol"))
        variables = _observe(table, loss, line, seed)
        if errors:
            coarse = _losses(table, loss, solve(COARSE * rtol))
            variables |= {f"{name}_stderr": np.abs(coarse[name] - variables[name]) / GAIN for name in LOSSES}
            if loss != "squared" or epoch is not None:
                calm = _losses(table, loss, solve(COARSE * rtol, order=0, noise=0.0))
                first = _losses(table, loss, solve(COARSE * rtol, order=1)) if epoch is not None else coarse
                missed = NOT_GAUSSIAN + (LEFT_OUT_OF_BLOCKS if k < len(spectrum.eigenvalues) else 0)
                variables |= stated_tolerance(coarse, first, calm, missed)
    return _describe(variables, spectrum, record, loss, {"loss": loss, "sampling": sampling, "covariance": closure})


def stated_tolerance(line: Mapping, first: Mapping, calm: Mapping, missed: float) -> dict[str, np.ndarray]:
    """Relative error of the closure, so far in the run.

    Outputs that are not Gaussian, and covariances left out, change what the noise does to the losses by a share of it,
    `missed` (`calm` is the line without noise); for shuffled epochs comes what the last order in the rows' own
    contributions changes.
    """
    shuffling = closure_tolerance(line, first)
    shares = {name: missed * np.abs(1 - calm[name] / line[name]) for name in LOSSES}
    return {f"{n}_tolerance": shuffling[f"{n}_tolerance"] + np.maximum.accumulate(s) for n, s in shares.items()}


def best_constant_step(
    spectrum: Spectrum,
    *,
    loss: str = "logistic",
    batch: float,
    steps: int,
    sampling: str = "epochs",
    ridge: float = 0.0,
) -> float:
    """The constant step size of least forecast loss after `steps` steps, on held-out rows where there are some.

    Lipschitz losses have no stability edge: the forecast itself says which step is too large. A walk by factors of two
    from 1/E|x|^2 brackets the minimum; a parabola in the logarithm of the step refines it.

    Args: as of `convex_sgd`.
    Returns: the step size, units of 1/feature^2.
    """
    record = xr.DataArray([int(steps)], {"step": [int(steps)]}, "step")
    name = "train_loss" if spectrum.test_rows is None else "test_loss"
    setting = {"loss": loss, "batch": batch, "sampling": sampling, "ridge": ridge, "rtol": 3e-3, "errors": False}
    unit = 1 / np.mean(spectrum.leverage)
    seen: dict[float, float] = {}

    def judge(power: float) -> float:
        if power not in seen:
            line = convex_sgd(spectrum, step_size=unit * 2.0**power, record=record, **setting)
            seen[power] = float(np.nan_to_num(line[name].item(), nan=np.inf))
        return seen[power]

    middle = 0
    while abs(middle) < WALK:
        step = min((-1, 0, 1), key=lambda side: judge(middle + side))
        if step == 0:
            break
        middle += step
    below, here, above = (judge(middle + side) for side in (-1, 0, 1))
    bend = below - 2 * here + above
    if np.isfinite(bend) and bend > 0:
        judge(middle + float(np.clip((below - above) / (2 * bend), -1, 1)))
    return float(unit * 2.0 ** min(seen, key=seen.__getitem__))


def check_targets(spectrum: Spectrum, loss: str) -> None:
    """InputError if the loss is unknown, or the targets are none of its."""
    known = (*SMOOTH, "softmax")
    if loss not in known:
        raise InputError(f"no loss is called '{loss}'", why=nearest(loss, known), do=f"known are {', '.join(known)}")
    given = [spectrum.targets] + ([] if spectrum.test_targets is None else [spectrum.test_targets])
    if loss == "softmax":
        if spectrum.outputs < 2 or any(np.any(y < 0) or np.any(np.abs(y.sum(1) - 1) > 1e-6) for y in given):
            raise InputError("the softmax loss needs one-hot targets", do="pass one column a class, rows of sum 1")
    elif spectrum.outputs != 1:
        raise InputError(f"the {loss} loss has one output and the targets have {spectrum.outputs} columns")
    elif loss in ("logistic", "smoothed_hinge") and any(np.any(np.abs(y) != 1) for y in given):
        raise InputError(f"the {loss} loss needs the targets -1 and 1", do="code the two classes so")


def leading(covariance: str, p: int, outputs: int) -> int:
    """How many directions keep their full covariance."""
    return block.leading(covariance, p, auto=p if p * outputs <= FULL else min(p, BLOCK // outputs))


def _table(spectrum: Spectrum, k: int, dtype) -> Table:
    held_out = (spectrum.rows, spectrum.targets)  # without held-out rows they stand in, nobody reads the result
    if spectrum.test_rows is not None and spectrum.test_targets is not None:
        held_out = (spectrum.test_rows, spectrum.test_targets)
    K = spectrum.outputs
    size = 4096 if K == 1 else int(np.clip(CHUNK // (K * K * (k + 4)), 32, 4096))

    def chunks(rows, targets) -> Rows:
        n = len(rows)
        m = -(-n // size)
        c = -(-n // m)
        cut = lambda a: jnp.asarray(np.concatenate([a, np.zeros((m * c - n, *a.shape[1:]))]), dtype).reshape(
            m, c, *a.shape[1:]
        )
        return Rows(cut(rows), cut(targets), cut(np.full(n, 1 / n)))

    probe = (part[:: -(-len(held_out[0]) // PROBE)] for part in held_out)
    return Table(
        chunks(spectrum.rows, spectrum.targets), chunks(*held_out), chunks(*probe), jnp.asarray(spectrum.n, dtype)
    )


@partial(jax.jit, static_argnames=("loss", "k", "shuffled"))
def _solve(table, setting, epoch, stops, ends, rtol, order, loss: str, k: int, shuffled: bool) -> Gaussian:
    """Mean and covariance at all stops. They are judged outside: XLA's threads on a CPU lock up on nested loops."""
    moments = moments_of(loss)
    if shuffled:
        return shuffled_closure.run(table, moments, setting, k, epoch, stops, ends, rtol, order)
    return gaussian_closure.run(table, moments, setting, k, stops, rtol)


def _losses(table: Table, loss: str, line: Sequence[Gaussian]) -> dict[str, np.ndarray]:
    rows = {"train_loss": table.train, "test_loss": table.test}
    return {name: np.array([float(expected_loss(loss, rows[name], at)) for at in line]) for name in LOSSES}


def _observe(table: Table, loss: str, line: Sequence[Gaussian], seed: int) -> dict[str, np.ndarray]:
    """Losses, their spread and quantiles between runs, and mistakes."""
    variables = _losses(table, loss, line)
    p, outputs = line[0].mean.shape
    normal = jnp.asarray(normal_draws(p, outputs, seed), line[0].mean.dtype)
    thetas = [draw(at, normal) for at in line]
    for name, rows in (("train_loss", table.train), ("test_loss", table.test)):
        shapes = [spread(loss, rows, drawn) for drawn in thetas]
        variables[f"{name}_sd"] = np.array([float(shape.sd) for shape in shapes])
        variables[f"{name}_quantile"] = variables[name][:, None] + np.array([shape.quantiles for shape in shapes])
    if loss == "softmax":
        mistakes = [class_error(table.test, drawn) for drawn in thetas]
    else:
        mistakes = [margin_error(table.test, at) for at in line]
    return variables | {"test_error": np.array(mistakes, float)}


def _describe(variables: Mapping[str, np.ndarray], spectrum, record: xr.DataArray, loss: str, attrs) -> xr.Dataset:
    held_out, classes = spectrum.test_rows is not None, loss in ("logistic", "smoothed_hinge", "softmax")
    keep = {
        name: ((*record.dims, "quantile") if name.endswith("quantile") else record.dims, value)
        for name, value in variables.items()
        if (held_out or not name.startswith("test")) and (name != "test_error" or classes)
    }
    coords = dict(record.coords) or {record.dims[0]: record.values}
    return xr.Dataset(keep, coords={**coords, "quantile": list(LEVELS)}, attrs=attrs)
