"""Where SGD with a ridge settles: the law of its parameters at late times, as losses and overlaps.

Three ways that check each other: a closed form for least squares, a static problem for convex losses as the temperature
tends to 0, and the time average of a long sweep for anything that settles.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ...checks import as_positive
from ...errors import InputError
from ...models.activations import identity
from ...problems.teacher import SummedLink
from ...problems.teacher_student import TeacherStudent
from . import drawing
from .observables import mean_and_error
from .reduced import reduced
from .setting import settle
from .solving import forecast, paths_in_a_group
from .stability import is_least_squares, marchenko_pastur

BISECTIONS = 60
DAMPING = 0.5
ITERATIONS = 2000


def stationary_least_squares(
    problem: TeacherStudent,
    *,
    delta: float,
    sgd_temperature: float = 0.0,
    dt: float | None = None,
    clock: Literal["poisson", "bernoulli"] = "poisson",
    ridge: float | None = None,
) -> xr.Dataset:
    """Losses and overlaps of SGD on least squares at late times, in closed form.

    Args:
      problem: of one linear student and one linear teacher, with squared loss.
      delta: samples per dimension, n / d.
      sgd_temperature: eta / B; 0 for gradient descent.
      dt: time step eta / d of the run as it is; None for steps of vanishing size.
      clock: batches drawn with ("poisson") or without ("bernoulli") replacement; they differ at finite dt only.
      ridge: lam of the step theta <- (1 - dt lam) theta; that of the problem times its d unless given.

    Returns: Dataset of train_loss, test_loss, overlap and self_overlap.

    Raises: InputError without a stationary law: ridge 0 with n < d, or a temperature beyond the stability edge, which
      is named.

    Source: the noise of SGD along an eigenvector of the sample covariance feeds on the training loss, which the noise
      raises in turn; Paquette, Lee, Pedregosa & Paquette, COLT 2021.
    """
    delta, tau = as_positive(delta, "delta"), as_positive(sgd_temperature, "sgd_temperature", zero=True)
    with jax.enable_x64(True):
        small = reduced(problem)
        linear = isinstance(small.link, SummedLink) and small.link.activation is identity
        if not (linear and is_least_squares(small) and small.plain) or small.sign:
            raise InputError(
                "the closed form is known for one linear unit with squared loss", do="use time_averaged for others"
            )
        lam = float(small.ridge) * len(problem.spectrum) if ridge is None else as_positive(ridge, "ridge", zero=True)
        rho, noise, a2 = float(small.teacher_gram[0, 0]), float(small.label_noise), float(small.second[0]) ** 2
    if lam == 0 and delta < 1:
        raise InputError(
            f"with ridge=0 and delta={delta:g} < 1 there is no stationary law of the parameters",
            why="directions without samples keep their start for ever",
            do="use ridge > 0",
        )
    if a2 != 1:
        raise InputError("the closed form is written for second=1", do="scale teacher_gram instead")
    x, weight = marchenko_pastur(delta)
    pull = x + lam
    if dt is None:
        spread = tau / 2 * x / pull
    else:
        dt = as_positive(dt, "dt")
        if dt * pull.max() >= 2:
            raise InputError(
                f"dt={dt:g} is beyond the stability of gradient descent", do=f"use dt < {2 / pull.max():.3g}"
            )
        gain = tau * dt - (dt**2 / delta if clock == "bernoulli" else 0.0)
        spread = max(gain, 0.0) * x / (1 - (1 - dt * pull) ** 2)
    feedback = float(weight @ (x * spread))
    if feedback >= 1:
        raise InputError(
            f"sgd_temperature={tau:g} is beyond the stability edge",
            why="the noise feeds itself faster than it decays",
            do=f"use sgd_temperature < {tau / feedback:.3g}",
        )
    left, fit = lam / pull, 1 / pull
    residual = (weight @ (x * rho * left**2 + noise / delta * left**2 * (x > 0))) + max(0.0, 1 - 1 / delta) * noise
    residual /= 1 - feedback
    thermal = residual * float(weight @ spread)
    chance = noise / delta * float(weight @ (x * fit**2))
    values = {
        "train_loss": residual / 2,
        "test_loss": (rho * float(weight @ left**2) + chance + noise + thermal) / 2,
        "overlap": rho * float(weight @ (x * fit)),
        "self_overlap": rho * float(weight @ (x * fit) ** 2) + chance + thermal,
    }
    return xr.Dataset(values, attrs={"theory": "riron.theory.dmft.stationary_least_squares"})


def stationary_convex(problem: TeacherStudent, *, delta: float, ridge: float | None = None) -> xr.Dataset:
    """Losses and overlaps of the minimum of a convex loss with ridge: SGD at late times as the temperature tends to 0.

    Args:
      problem: one student and one teacher, any loss that is convex in the student's pre-activation, kinks allowed.
      delta: samples per dimension, n / d.
      ridge: as in `stationary_least_squares`, > 0.

    Returns: Dataset of train_loss, test_loss, test_error (sign labels), overlap, self_overlap, and `response`, the
      static response of the parameters to a field.

    Raises: InputError for ridge 0, a loss that is not convex, or more units.

    Source: stationary point of the dynamical equations, the fixed point of convex generalised linear models; Gerbelot,
      Troiani, Mignacco, Krzakala & Zdeborova 2022; Loureiro et al., NeurIPS 2021.
    """
    delta = as_positive(delta, "delta")
    with jax.enable_x64(True):
        small = reduced(problem)
        lam = float(small.ridge) * len(problem.spectrum) if ridge is None else as_positive(ridge, "ridge", zero=True)
        if not small.plain:
            raise InputError("the static problem is written for one student and one teacher", do="use time_averaged")
        if lam == 0:
            raise InputError("the static problem needs ridge > 0", why="without it the minimum may be at infinity")
        check_convex(small)
        a, chi, variance, train, gap = (float(v) for v in fixed_point(small, jnp.asarray(delta), jnp.asarray(lam)))
        if not gap < 1e-8:
            raise InputError(f"the static problem did not settle (last change {gap:.1e})", do="raise the ridge")
        rho = float(small.teacher_gram[0, 0])
        Q, q = jnp.array([[a**2 * rho + variance]]), jnp.array([[a * rho]])
        fresh = {name: float(v) for name, v in small.measure_overlaps(Q, q).items()}
    values = {"train_loss": train, **fresh, "overlap": a * rho, "self_overlap": a**2 * rho + variance, "response": chi}
    return xr.Dataset(values, attrs={"theory": "riron.theory.dmft.stationary_convex"})


def check_convex(problem: TeacherStudent) -> None:
    """InputError unless the gradient of the loss grows with r at all of many samples."""
    s, z = problem.nodes[:256, 1] * jnp.sqrt(problem.teacher_gram[0, 0]), problem.nodes[:256, 2]
    r = jnp.linspace(-6, 6, 241)
    slope = jax.vmap(lambda s, z: jax.vmap(lambda r: jax.grad(problem.sample_loss)(r[None], s[None], z)[0])(r))(s, z)
    if float(jnp.min(jnp.diff(slope, axis=1))) < -1e-9:
        raise InputError(
            "the loss is not convex in the student's pre-activation",
            why="its stationary law hangs on the start and is not unique",
            do="use time_averaged from a start of your choice",
        )


@eqx.filter_jit
def fixed_point(problem: TeacherStudent, delta: jax.Array, lam: jax.Array) -> tuple[jax.Array, ...]:
    """(a, chi, variance of w given w*, train loss, last change): the student's field is w = a w* + sd g."""
    g, s, z = problem.nodes[:, 0], problem.nodes[:, 1] * jnp.sqrt(problem.teacher_gram[0, 0]), problem.nodes[:, 2]
    rho = problem.teacher_gram[0, 0]
    loss = lambda r: jax.vmap(lambda r, s, z: problem.sample_loss(r[None], s[None], z))(r, s, z)
    slope = lambda r: jax.vmap(lambda r, s, z: jax.grad(problem.sample_loss)(r[None], s[None], z)[0])(r, s, z)

    def proximal(w, kappa):
        """The root r of r + kappa loss'(r) = w, by bisection: kinks are roots too."""
        other = w - kappa * slope(w)
        low, high = jnp.minimum(w, other), jnp.maximum(w, other)

        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            above = middle + kappa * slope(middle) > w
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))
        return (low + high) / 2

    def once(state):
        (a, chi, variance), _, count = state
        sd, kappa = jnp.sqrt(variance), chi / delta
        w = a * s + sd * g
        ell = (w - proximal(w, kappa)) / kappa
        mu = jnp.mean(ell * g) / sd
        mu_star = jnp.mean(ell * s) / rho - mu * a
        chi_new = 1 / (lam + mu)
        new = jnp.array([-chi_new * mu_star, chi_new, chi_new**2 * jnp.mean(ell**2) / delta])
        old = jnp.array([a, chi, variance])
        new = DAMPING * new + (1 - DAMPING) * old
        return new, jnp.max(jnp.abs(new - old)), count + 1

    go_on = lambda state: (state[1] > 1e-11) & (state[2] < ITERATIONS)
    start = (jnp.array([0.1, 1.0, 1.0]), jnp.asarray(jnp.inf), 0)
    (a, chi, variance), gap, _ = jax.lax.while_loop(go_on, once, start)
    train = jnp.mean(loss(proximal(a * s + jnp.sqrt(variance) * g, chi / delta)))
    return a, chi, variance, train, gap


def time_averaged(
    problem: TeacherStudent,
    *,
    delta: float,
    horizon: float,
    dt: float,
    burn_in: float | None = None,
    points: int = 100,
    paths: int = 8192,
    groups: int = 8,
    blocks: tuple[int, int] = (16, 4),
    key: int | jax.Array = 0,
    **options: Any,
) -> xr.Dataset:
    """Losses and overlaps at late times, averaged over time: cheaper than more paths, for anything that settles.

    Args:
      problem, delta, dt, paths, groups, blocks, key: as in `solve`.
      horizon: time at the end; several times 1 / ridge.
      burn_in: time from which to average; half of the horizon unless given.
      points: number of times that are averaged.
      options: clock, sgd_temperature, batch_fraction, ridge, momentum and step_schedule, as in `solve`.

    Returns: Dataset of what `solve` gives, without the axis of time, with `_stderr` and `_stderr_df` from the groups,
      and `_drift`, the change from the first half of the averaged times to the second.
    """
    burn_in = horizon / 2 if burn_in is None else as_positive(burn_in, "burn_in", zero=True)
    if not burn_in < horizon:
        raise InputError(f"burn_in={burn_in:g} is not before the horizon {horizon:g}")
    times = dt * np.unique(np.rint(np.linspace(burn_in, horizon, points) / dt))
    times = times[times <= horizon * (1 + 1e-9)]
    if options.get("ridge") is None:
        options["ridge"] = float(problem.ridge) * len(problem.spectrum)
    named = {
        "clock": "clock", "temperature": "sgd_temperature", "fraction": "batch_fraction", "ridge": "ridge",
        "momentum": "momentum", "schedule": "step_schedule",
    }  # fmt: skip
    unknown = set(options) - set(named.values())
    if unknown:
        raise InputError(f"time_averaged has no option '{min(unknown)}'", do=f"it has {', '.join(named.values())}")
    defaults = {"temperature": 0.0, "momentum": 0.0}
    chosen = {inside: options.get(outside, defaults.get(inside)) for inside, outside in named.items()}
    setting, _, _ = settle(delta=delta, horizon=horizon, dt=dt, record=times, asked=(), **chosen)  # type: ignore[arg-type]
    each = paths_in_a_group(paths, groups)
    with jax.enable_x64(True):
        small = reduced(problem)
        m, K = small.start_overlap.shape
        chances = drawing.draws(jax.random.key(key) if isinstance(key, int) else key, groups, each, m, m + K)
        values, _ = forecast(small, setting, chances, blocks)
    variables: dict[str, Any] = {}
    for name, per_group in values.items():
        axes = small.dims.get(name, ())
        mean, error = mean_and_error(per_group.mean(axis=1))
        half = per_group.shape[1] // 2
        drift = np.mean(per_group[:, half:].mean(axis=1) - per_group[:, :half].mean(axis=1), axis=0)
        variables |= {
            name: (axes, mean),
            f"{name}_stderr": (axes, error),
            f"{name}_stderr_df": ((), float(groups - 1)),
            f"{name}_drift": (axes, drift),
        }
    return xr.Dataset(variables, attrs={"theory": "riron.theory.dmft.time_averaged"})
