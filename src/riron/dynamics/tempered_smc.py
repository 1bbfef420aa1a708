"""Tempered sequential Monte Carlo: a cloud of Gaussian reference points is carried to exp(-U) times that Gaussian.

At inverse temperature 0 there is one Gaussian, sampled exactly; on the way to 1 the weights carry mass between modes,
which no local chain does, and their averages multiply to an unbiased estimate of the normaliser E exp(-U).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import as_positive
from ..errors import InputError

Potential = Callable[[Any, jax.Array], jax.Array]
"""potential(args, W (N, p)) -> (N,): a module-level function; everything that changes from call to call is in args."""

LONGEST = 128  # rungs at most
BYTES = 2**22  # aim for the work arrays of the groups that are moved at one time


class Ladder(NamedTuple):
    """Inverse temperatures 0 < b_1 < ... < b_T = 1 and the step of the moves at each; padded to `LONGEST`."""

    betas: np.ndarray
    steps: np.ndarray
    rungs: int

    @property
    def complete(self) -> bool:
        """Whether it reaches inverse temperature 1."""
        return bool(self.betas[self.rungs - 1] == 1)


class TemperedSample(NamedTuple):
    """G independent groups of N points each. A group counts with weight exp(log_z)."""

    points: np.ndarray
    """(G, N, p)."""
    log_z: np.ndarray
    """(G,) logarithms of unbiased estimates of E exp(-U) under the reference."""
    ess: np.ndarray
    """(G,) least effective sample size on the ladder, as a share of N."""
    acceptance: np.ndarray
    """(G,) least mean acceptance on the ladder."""

    @property
    def weights(self) -> np.ndarray:
        """(G,) of the groups, summing to 1."""
        v = np.exp(self.log_z - self.log_z.max())
        return v / v.sum()

    @property
    def log_weights_cv(self) -> float:
        """Coefficient of variation of exp(log_z) between groups."""
        v = self.weights
        return float(v.std(ddof=1) / v.mean()) if len(v) > 1 else float("nan")


def adapt_ladder(
    potential: Potential,
    args: Any,
    key: jax.Array,
    *,
    dim: int,
    reference_sd: float,
    particles: int = 1000,
    moves: int = 12,
    ess: float = 0.8,
    dtype: Any = jnp.float32,
) -> Ladder:
    """A ladder from a pilot run, to be frozen: only then is the estimate of the normaliser unbiased.

    Each inverse temperature is the one at which the effective sample size of the weights falls to a share `ess`; the
    step of each rung is adapted towards acceptance 0.6 while the pilot moves there.

    Args:
      potential: U(args, W (N, p)) -> (N,), a module-level function.
      args: pytree of arrays, cast to `dtype`.
      key: of the pilot alone; never use it again for production.
      dim: p. reference_sd: s0 of the reference N(0, s0^2 I).
      particles, moves: of the pilot. ess: in (0, 1); higher gives a longer ladder.

    Raises:
      InputError: a value out of range.
    """
    if not 0 < ess < 1:
        raise InputError(f"ess={ess} must lie strictly between 0 and 1")
    sd = as_positive(reference_sd, "reference_sd")
    with jax.enable_x64(True):
        betas, steps, rungs = pilot_rungs(
            potential, args, key, sd, ess, moves, dim=dim, particles=particles, dtype=dtype
        )
        return Ladder(np.asarray(betas), np.asarray(steps), int(rungs))


def tempered_smc(
    potential: Potential,
    args: Any,
    key: jax.Array,
    ladder: Ladder,
    *,
    dim: int,
    reference_sd: float,
    groups: int = 16,
    particles: int = 1000,
    moves: int = 6,
    rows: int = 1,
    dtype: Any = jnp.float32,
) -> TemperedSample:
    """G independent groups of N points from exp(-U) N(0, s0^2 I), along a frozen ladder.

    Groups never share points, so that their scatter is the error of any average. At each rung: weights, systematic
    resampling, `moves` Metropolis-adjusted Crank-Nicolson Langevin moves, in which the Gaussian is exact and the step
    need not shrink with p. Moves are in `dtype`, weights and normalisers in float64. Nothing is compiled anew for other
    args, ladders or numbers of moves.

    Args:
      potential, args, dim, reference_sd: as in `adapt_ladder`.
      key: of this run. ladder: from `adapt_ladder`, with another key.
      groups, particles, moves: G, N and K.
      rows: work numbers a point takes in the potential (rows of a table), to bound the memory used at one time.

    Source: Del Moral, Doucet & Jasra, JRSS B 2006 (delmoral2006smc); moves: Cotter, Roberts, Stuart & White,
      Statistical Science 2013 (cotter2013pcn).
    """
    sd = as_positive(reference_sd, "reference_sd")
    together = int(np.clip(BYTES / (np.dtype(dtype).itemsize * particles * (rows + dim)), 1, groups))
    shape = {"dim": dim, "groups": groups, "particles": particles, "together": together, "dtype": dtype}
    with jax.enable_x64(True):
        points, *numbers = production(potential, args, key, sd, ladder, moves, **shape)
        return TemperedSample(np.asarray(points), *(np.asarray(x) for x in numbers))


def local_chains(
    potential: Potential,
    args: Any,
    key: jax.Array,
    points: np.ndarray,
    *,
    reference_sd: float,
    step: float,
    moves: int = 300,
) -> tuple[np.ndarray, float]:
    """The same moves at inverse temperature 1, from given points: exact in the end, but no point changes its mode.

    Args:
      potential, args, key, reference_sd: as in `tempered_smc`.
      points: (..., p) where the chains start. step: h of a move. moves: of each chain.

    Returns: where they end, of the same shape, and the mean acceptance.
    """
    sd = as_positive(reference_sd, "reference_sd")
    with jax.enable_x64(True):
        W, acceptance = _chains(potential, args, key, sd, jnp.asarray(points), step, moves)
        return np.asarray(W), float(acceptance)


class _Cloud(NamedTuple):
    W: jax.Array  # (N, p)
    U: jax.Array  # (N,)
    dU: jax.Array  # (N, p)


def _evaluate(potential: Potential, args: Any, W: jax.Array) -> _Cloud:
    def total(W):
        U = potential(args, W).astype(W.dtype)
        return jnp.sum(U), U

    dU, U = jax.grad(total, has_aux=True)(W)
    return _Cloud(W, U, dU)


def _cast(args: Any, dtype: Any) -> Any:
    real = lambda a: jnp.issubdtype(jnp.asarray(a).dtype, jnp.floating)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if real(a) else a, args)


def _move(potential: Potential, args: Any, key: jax.Array, cloud: _Cloud, beta: Any, step: Any, sd: Any):
    """One Metropolis-adjusted Crank-Nicolson Langevin move of every point, and its mean acceptance."""
    W, U, dU = cloud
    for_noise, for_choice = jax.random.split(key)
    as_points = lambda x: jnp.asarray(x, W.dtype)
    beta, sd = as_points(beta), as_points(sd)
    rho = as_points((1 - step / 4) / (1 + step / 4))
    drift = (1 - rho) * beta * sd**2
    spread = 1 - rho**2
    noise = jax.random.normal(for_noise, W.shape, W.dtype)
    new = _evaluate(potential, args, rho * W - drift * dU + jnp.sqrt(spread) * sd * noise)
    # The Gaussian parts of target and proposal cancel on paper, so that float32 need not subtract them.
    back = jnp.sum(new.dU * (2 * (W - rho * new.W) + drift * new.dU), axis=1)
    there = jnp.sum(dU * (2 * (new.W - rho * W) + drift * dU), axis=1)
    log_ratio = -beta * (new.U - U) - drift * (back - there) / (2 * sd**2 * spread)
    log_ratio = jnp.where(jnp.isfinite(log_ratio) & jnp.isfinite(new.U), log_ratio, -jnp.inf)
    accept = jnp.log(jax.random.uniform(for_choice, U.shape, W.dtype)) < log_ratio
    chosen = _Cloud(
        *(jnp.where(accept.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, cloud, strict=True))
    )
    return chosen, jnp.mean(jnp.exp(jnp.minimum(log_ratio, 0)))


def _resample(key: jax.Array, cloud: _Cloud, log_w: jax.Array) -> _Cloud:
    """Systematic resampling."""
    N = len(log_w)
    cumulative = jnp.cumsum(jax.nn.softmax(log_w))
    index = jnp.searchsorted(cumulative, (jnp.arange(N) + jax.random.uniform(key)) / N)
    return _Cloud(*(leaf[jnp.minimum(index, N - 1)] for leaf in cloud))


def _ess(log_w: jax.Array) -> jax.Array:
    w = jax.nn.softmax(log_w)
    return 1 / (len(log_w) * jnp.sum(w**2))


@partial(jax.jit, static_argnames=("potential", "dim", "particles", "dtype"))
def pilot_rungs(potential, args, key, sd, share, moves, *, dim, particles, dtype):
    """A run that chooses the ladder: betas at which the effective sample size falls to `share`, step sizes, rungs."""
    args = _cast(args, dtype)
    start = jnp.asarray(sd, dtype) * jax.random.normal(key, (particles, dim), dtype)

    def next_beta(U, beta):
        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            enough = _ess(-(middle - beta) * U) >= share
            return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

        low, _ = jax.lax.fori_loop(0, 40, halve, (beta, 1.0))
        return jnp.where(_ess(-(1.0 - beta) * U) >= share, 1.0, low)

    def rung(state):
        cloud, beta, log_step, betas, steps, t = state
        U = cloud.U.astype(jnp.float64)
        new = next_beta(U, beta)
        keys = jax.random.split(jax.random.fold_in(key, t + 1), 2)
        cloud = _resample(keys[0], cloud, -(new - beta) * U)

        def move(k, carry):
            cloud, log_step, late = carry
            cloud, rate = _move(potential, args, jax.random.fold_in(keys[1], k), cloud, new, jnp.exp(log_step), sd)
            log_step = jnp.minimum(log_step + 1.5 * (rate.astype(jnp.float64) - 0.6), jnp.log(4.0))
            return cloud, log_step, late + jnp.where(2 * k >= moves, log_step, 0.0)

        cloud, log_step, late = jax.lax.fori_loop(0, moves, move, (cloud, log_step, 0.0))
        log_step = late / (moves - (moves + 1) // 2)
        return cloud, new, log_step, betas.at[t].set(new), steps.at[t].set(jnp.exp(log_step)), t + 1

    going = lambda state: (state[1] < 1) & (state[-1] < LONGEST)
    zeros = jnp.zeros(LONGEST)
    state = (_evaluate(potential, args, start), 0.0, 0.0, zeros, zeros, 0)
    _, _, _, betas, steps, rungs = jax.lax.while_loop(going, rung, state)
    return betas, steps, rungs


@partial(jax.jit, static_argnames=("potential", "dim", "groups", "particles", "together", "dtype"))
def production(potential, args, key, sd, ladder, moves, *, dim, groups, particles, together, dtype):
    """Independent groups of particles along a ladder that was fixed before."""
    args = _cast(args, dtype)
    betas = jnp.concatenate([jnp.zeros(1), ladder.betas])

    def group(key):
        start = jnp.asarray(sd, dtype) * jax.random.normal(key, (particles, dim), dtype)

        def rung(t, state):
            cloud, log_z, ess, acceptance = state
            keys = jax.random.split(jax.random.fold_in(key, t + 1), 2)
            log_w = -(betas[t + 1] - betas[t]) * cloud.U.astype(jnp.float64)
            log_z += jax.nn.logsumexp(log_w) - jnp.log(particles)
            ess = jnp.minimum(ess, _ess(log_w))
            cloud = _resample(keys[0], cloud, log_w)

            def move(k, carry):
                cloud, total = carry
                now = jax.random.fold_in(keys[1], k)
                cloud, rate = _move(potential, args, now, cloud, betas[t + 1], ladder.steps[t], sd)
                return cloud, total + rate.astype(jnp.float64)

            cloud, total = jax.lax.fori_loop(0, moves, move, (cloud, 0.0))
            return cloud, log_z, ess, jnp.minimum(acceptance, total / moves)

        cloud = _evaluate(potential, args, start)
        cloud, *numbers = jax.lax.fori_loop(0, ladder.rungs, rung, (cloud, 0.0, 1.0, 1.0))
        return cloud.W, *numbers

    return jax.lax.map(group, jax.random.split(key, groups), batch_size=together)


@partial(jax.jit, static_argnames=("potential",))
def _chains(potential, args, key, sd, points, step, moves):
    args = _cast(args, points.dtype)

    def move(k, carry):
        cloud, total = carry
        cloud, rate = _move(potential, args, jax.random.fold_in(key, k), cloud, 1.0, step, sd)
        return cloud, total + rate.astype(jnp.float64)

    start = _evaluate(potential, args, points.reshape(-1, points.shape[-1]))
    cloud, total = jax.lax.fori_loop(0, moves, move, (start, 0.0))
    return cloud.W.reshape(points.shape), total / moves
