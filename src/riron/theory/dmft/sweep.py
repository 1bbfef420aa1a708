"""One causal sweep of dynamical mean-field theory in the noise representation.

The dynamics theta_{k+1} = theta_k + beta_k (theta_k - theta_{k-1}) - dt_k lam theta_k - (1/delta) X^T h_k, with
h_k = c_k ell(r_k, r*, z) per sample, turn in the limit of many samples and dimensions into

    theta_k = A_k (theta_0, theta*) + sum_{s<k} R(k,s) u_s                     one coordinate, u ~ GP(0, H / delta)
    r_k     = A_k (w_0, w*) + sum_{s<k} R(k,s) (v_s - h_s / delta)             one sample, v an independent copy of u
    w_k     = the same without h: what a fresh sample sees,                    H(k,s) = E[h_k h_s^T]

with A and R driven by the response of h_k to (w_0, w*) and v. By Stein's identity the response is a regression, so no
derivative of ell is needed. Step k needs steps < k only: nothing is iterated to a fixed point.

Source: the equations are those of Celentano, Cheng & Montanari 2021 and Gerbelot, Troiani, Mignacco, Krzakala &
Zdeborova 2022, here with their Gaussian noises, not their covariances, as the variables.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .clocks import CLOCKS, Place, Rate
from .linear import inverse, root, solve_rows

NUGGET = 1e-6  # variance added to each new noise, relative: paths of gradient flow are nearly determined by their past


class Law(NamedTuple):
    """What a step needs to know besides the sample's loss.

    rate: of the clock; ridge: lam; start (J, J): covariance of (w_0, w*), J = m + K; scale: prior size of the response
    per unit of time, in the regression; factors, momenta, shares (T+1,): on the step size, of the momentum, of the
    samples that each step visits.
    """

    rate: Rate
    ridge: jax.Array
    start: jax.Array
    scale: jax.Array
    factors: jax.Array
    momenta: jax.Array
    shares: jax.Array


class Group(NamedTuple):
    """Chances of one group of P paths: F (J, P) = (w_0, w*), base (J+2, P) = F whitened, z and 1; early innovations."""

    F: jax.Array
    base: jax.Array
    early: jax.Array
    noise_key: jax.Array
    clock_key: jax.Array


class Rows(NamedTuple):
    """Per step: slot, into, gone (see `past.Plan`), and asked: where the step is kept for the correlations."""

    slot: jax.Array
    into: jax.Array
    gone: jax.Array
    asked: jax.Array


class State(NamedTuple):
    """The past in L = m x capacity rows: noises V, kicks HS (L, P), their Gram matrix H (L, L), the nuggets (L,),
    which rows are in use (L,), while the others hold anything; A (m, J), R (m, L), each with its last value; w and R at
    the steps asked for."""

    V: jax.Array
    HS: jax.Array
    H: jax.Array
    nuggets: jax.Array
    used: jax.Array
    A: jax.Array
    R: jax.Array
    last_A: jax.Array
    last_R: jax.Array
    kept_w: jax.Array
    kept_R: jax.Array


class Point(NamedTuple):
    """Measured at one step: mean loss, overlaps q (m, K) and Q (m, m), how much the regression's ridge weighs,
    whether all gradients are finite, and r (m,) of the first sample where they are not."""

    train_loss: jax.Array
    overlap: jax.Array
    self_overlap: jax.Array
    shrinking: jax.Array
    finite: jax.Array
    bad_r: jax.Array


def sweep(sample_loss: Any, law: Law, group: Group, rows: Rows, clock: str, pairs: bool, sizes: tuple[int, int]):
    """All steps of one group of paths.

    Args:
      sample_loss: loss of one sample from r (m,), r* (K,) and z; only its gradient in r is used.
      law, group, rows: see there.
      clock: a name of `CLOCKS`; pairs: whether steps are pairs of the fine steps that the keys speak of.
      sizes: (capacity, number of steps asked for).

    Returns: `Point`s along the steps 0..T, kept_w (asked, m, P) and kept_R (asked, m, L).
    """
    m, P = group.early.shape[1:]
    J = len(group.F)
    delta, S0 = law.rate.delta, law.start
    S0_inverse = inverse(S0)
    r_star, z = group.F[m:], group.base[J]
    losses = jax.vmap(jax.value_and_grad(sample_loss), in_axes=(1, 1, 0), out_axes=(0, 1))

    def step(state: State, now):
        k, row, factor, beta, share = now
        slot, into, gone, asked = row
        rate = law.rate._replace(fraction=share)
        F, V, HS, A, R = group.F, state.V, state.HS, state.A, state.R

        # Where the samples are, and what moves the parameters.
        w = A @ F + R @ V
        r = w - (R / delta) @ HS
        loss, ell = losses(r, r_star, z)
        c, cbar = (factor * weight for weight in CLOCKS[clock](rate, Place(group.clock_key, k, P, pairs)))
        h, hbar = c * ell, cbar * ell

        # The response: regression of hbar on the Gaussian variables. The exact part along w is taken out first; what
        # is left is shrunk by a ridge worth the sampling noise over the prior size of a response.
        local = (hbar @ w.T / P) @ inverse(w @ w.T / P)
        y = hbar - local @ w
        x = innovation(group, k, pairs)
        with_V = on_rows(y, x, V) * state.used / P
        gram = state.H / delta + jnp.diag(state.nuggets + ~state.used)
        factor_of_gram = jnp.linalg.cholesky(gram)
        on_V, along_V = jnp.split(solve_rows(factor_of_gram, with_V), 2)
        y_base, along_base = jnp.split(jnp.concatenate([y, x]) @ group.base.T / P, 2)
        unexplained = jnp.mean(y**2) - (jnp.sum(y_base**2) + jnp.sum(on_V * with_V[:m])) / m
        prior = P * (law.scale * law.rate.dt * jnp.maximum(factor, 1e-9)) ** 2
        rho = jnp.maximum(unexplained, 0) / prior
        alpha = local @ A + (y @ F.T / P) @ S0_inverse
        N = local @ R + solve_rows(jnp.linalg.cholesky(gram + rho * jnp.eye(len(gram))), with_V[:m])

        # The new noise, given those before: matched to its covariance in the sample, not only on average.
        hk, hh = on_rows(h, h[:0], HS) * state.used / P, h @ h.T / P
        size = jnp.trace(hh) / (delta * m)
        nugget = NUGGET * size + 1e-30
        coefficients = solve_rows(factor_of_gram, hk / delta)
        spread = root(hh / delta + nugget * jnp.eye(m) - coefficients @ hk.T / delta, nugget)
        left = x @ x.T / P - along_base @ along_base.T - along_V @ with_V[m:].T
        mix = spread @ inverse(root(left))
        v = (coefficients - mix @ along_V) @ V + mix @ (x - along_base @ group.base)

        Q = A @ S0 @ A.T + R @ state.H @ R.T / delta
        finite = jnp.isfinite(ell).all(axis=0) & jnp.isfinite(loss)
        shrinking = rho / jnp.maximum(size, 1e-300)
        point = Point(jnp.mean(loss), (A @ S0)[:, m:], Q, shrinking, finite.all(), r[:, jnp.argmin(finite)])

        kept_w, kept_R = state.kept_w.at[asked].set(w), state.kept_R.at[asked].set(R)
        here = slot * m
        decay = 1 - law.rate.dt * factor * law.ridge + beta
        put = lambda table, value, where: jax.lax.dynamic_update_slice(table, value, where)
        zero = jnp.zeros_like(here)
        H = put(put(put(state.H, hk, (here, zero)), hk.T, (zero, here)), hh, (here, here))
        new = State(
            replace(V, v, here, into * m, gone * m, v),
            replace(HS, h, here, into * m, gone * m, coefficients),
            H,
            put(state.nuggets, jnp.full(m, nugget), (here,)),
            put(state.used, jnp.ones(m, bool), (here,)),
            decay * A - beta * state.last_A - alpha,
            put(decay * R - beta * state.last_R - N, jnp.eye(m), (zero, here)),
            A,
            R,
            kept_w,
            kept_R,
        )
        return join(new, into * m, gone * m, m), point

    L = (sizes[0] + 1) * m
    start = State(
        jnp.zeros((L, P)), jnp.zeros((L, P)), jnp.zeros((L, L)), jnp.zeros(L), jnp.zeros(L, bool),
        jnp.eye(m, J), jnp.zeros((m, L)), jnp.eye(m, J), jnp.zeros((m, L)),
        jnp.zeros((sizes[1] + 1, m, P)), jnp.zeros((sizes[1] + 1, m, L)),
    )  # fmt: skip
    end, points = jax.lax.scan(step, start, (jnp.arange(len(law.factors)), rows, law.factors, law.momenta, law.shares))
    return points, end.kept_w[:-1], end.kept_R[:-1]


def on_rows(first: jax.Array, second: jax.Array, past: jax.Array) -> jax.Array:
    """[first; second] @ past^T, row by row: products with single vectors are twice as fast here."""
    return jnp.stack([past @ row for row in (*first, *second)])


def replace(
    table: jax.Array, new: jax.Array, here: jax.Array, into: jax.Array, gone: jax.Array, read: jax.Array
) -> jax.Array:
    """Rows of the past after a step: the new ones written, the block `gone` added to `into` and left where it is.

    `read` is what the step last made of the table. The compiler writes in place, without a copy of the whole table,
    only if what is written depends on all that was read: hence the zeros that are added.
    """
    m = len(new)
    pair = [jax.lax.dynamic_slice_in_dim(table, first, m) for first in (into, gone)]
    joined = jnp.tile(jnp.eye(m), (1, 2)) @ jnp.concatenate(pair)
    new = new + 0.0 * (joined[0, 0] + read[0, 0])
    table = jax.lax.dynamic_update_slice_in_dim(table, new, here, 0)
    return jax.lax.dynamic_update_slice_in_dim(table, joined, into, 0)


def innovation(group: Group, k: jax.Array, pairs: bool) -> jax.Array:
    """Standard normal numbers (m, P) of step k; those of a pair of fine steps added and divided by sqrt 2."""
    early = len(group.early)

    def fine(j):
        # Random bits are a third of a step's cost: single precision halves it and is finer than chance by far.
        single = lambda: jax.random.normal(jax.random.fold_in(group.noise_key, j), group.early.shape[1:], jnp.float32)
        fresh = lambda: single().astype(float)
        return jax.lax.cond(j < early, lambda: group.early[jnp.minimum(j, early - 1)], fresh)

    return (fine(2 * k) + fine(2 * k + 1)) / 2**0.5 if pairs else fine(k)


def join(state: State, into: jax.Array, gone: jax.Array, m: int) -> State:
    """The block `gone` (first of its m rows) becomes part of `into`: noises add, responses to them average.

    The rows of the sample paths have been joined by `replace`.
    """
    take = lambda table, axis: jax.lax.dynamic_slice_in_dim(table, gone, m, axis)
    put = lambda table, value, where, axis: jax.lax.dynamic_update_slice_in_dim(table, value, where, axis)

    def merge(table, axis, weight=1.0):
        there = jax.lax.dynamic_slice_in_dim(table, into, m, axis)
        moved = take(table, axis)
        return put(put(table, jnp.zeros_like(moved), gone, axis), weight * (there + moved), into, axis)

    used = put(state.used, jnp.zeros(m, bool), gone, 0)
    return state._replace(
        H=merge(merge(state.H, 0), 1),
        nuggets=merge(state.nuggets, 0),
        used=used,
        R=merge(state.R, 1, 0.5),
        last_R=merge(state.last_R, 1, 0.5),
    )


def sweep_groups(sample_loss, law, groups, rows, clock, pairs, sizes, together: bool):
    """`sweep` for each group of paths, results stacked.

    Group by group, side by side on the cores, the past of one stays in the cache of a processor; all in one call is
    what a graphics card likes. Two threads that compile at once can end the process, so the first group is alone.
    """
    if together:
        return sweep_together(sample_loss, law, groups, rows, clock, pairs, sizes)
    alone = [jax.tree.map(lambda a, k=k: a[k], groups) for k in range(len(groups.F))]

    def one(group: Group):
        with jax.enable_x64(True):  # a setting of the thread
            return jax.block_until_ready(sweep_alone(sample_loss, law, group, rows, clock, pairs, sizes))

    with ThreadPoolExecutor(usable_cores()) as pool:
        found = [pool.submit(one, alone[0]).result(), *pool.map(one, alone[1:])]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *found)


def usable_cores() -> int:
    """Cores of this process; a limit on XLA's own threads (NPROC) holds here too."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("NPROC", "")
    return max(1, min(count, int(limit)) if limit.isdigit() else count)


@eqx.filter_jit
def sweep_alone(sample_loss, law, group, rows, clock, pairs, sizes):
    return sweep(sample_loss, law, group, rows, clock, pairs, sizes)


@eqx.filter_jit
def sweep_together(sample_loss, law, groups, rows, clock, pairs, sizes):
    return jax.vmap(lambda group: sweep(sample_loss, law, group, rows, clock, pairs, sizes))(groups)
