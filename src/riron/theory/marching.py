"""Long linear recursions with slowly changing sources, advanced many steps at a time.

A state obeys x <- w x + s(x) at every step, with known multipliers w and sources s that depend on the state through
a few smooth averages. Over d steps with s linear in time the update is a closed form (`Powers`). The sources are
first extrapolated from the last two nodes, evaluated once at the predicted end, and then interpolated; the difference
between prediction and correction is the error that sets d. At d = 1 the update is exact.

The exponential two-step predictor-corrector is in the spirit of exponential Adams methods (Hochbruck & Ostermann,
Acta Numerica 2010), here for a recursion in discrete time.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Powers(NamedTuple):
    """What d steps of x <- (1 - L) x + s0 + s1 j do: x <- decay x + first s0 + second s1 (j = 0 at the first step)."""

    decay: jax.Array
    first: jax.Array
    second: jax.Array


def powers(L: jax.Array, d: jax.Array) -> Powers:
    """Sums of powers of w = 1 - L over d steps, with their limits as L -> 0; w may be negative (d is whole)."""
    real = d.astype(L.dtype)
    odd = jnp.mod(d, 2) == 1
    size = jnp.where(L < 0.5, jnp.log1p(-jnp.minimum(L, 0.5)), jnp.log(jnp.maximum(jnp.abs(1 - L), 1e-30)))
    decay = jnp.exp(real * size) * jnp.where((L > 1) & odd, -1, 1)
    x = real * L
    # Below these arguments the quotients lose digits: their Taylor series (in L, exact in d) take over.
    tiny = 1e-5 if L.dtype == jnp.float64 else 3e-3
    small = jnp.abs(x) < tiny
    safe = jnp.where(small, 1.0, L)
    pairs = real * (real - 1) / 2
    triples = pairs * (real - 2) / 3
    first = jnp.where(small, real - pairs * L + triples * L**2, -jnp.expm1(real * size) / safe)
    first = jnp.where(small | (L <= 1), first, (1 - decay) / safe)
    second = jnp.where(small, pairs - triples * L, (real - first) / safe)
    return Powers(decay, first, second)


class March(NamedTuple):
    """Where a march stands: whole time, state, sources there, sources one node back and its distance, next d."""

    time: jax.Array
    state: Any
    sources: Any
    previous: Any
    gap: jax.Array
    next_d: jax.Array


def blend(weight, a, b):
    return jax.tree.map(lambda x, y: weight * x + (1 - weight) * y, a, b)


def choose(condition, a, b):
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def march(state, *, stops, restarts, sources, propagate, distance, measure, restart, limit, rtol):
    """Advance `state` from time 0 through all `stops`; returns what `measure(time, state, sources)` gives at each.

    Args:
      stops: (m,) increasing whole times, the first may be 0.
      restarts: (m,) bool; at these stops `restart(state, sources)` replaces the state and the past is forgotten.
      sources: (time, state) -> sources, a pytree of slowly changing averages.
      propagate: (time, d, state, sources, slope) -> state after d steps.
      distance: (predicted, corrected, sources) -> relative difference of what will be measured.
      limit: (time) -> largest d allowed there.
      rtol: largest distance accepted; at d = 1 the update is exact and accepted anyway.
    """

    def attempt(at: March, stop) -> March:
        d = jnp.clip(jnp.minimum(at.next_d, limit(at.time)), 1, stop - at.time)
        slope = jax.tree.map(
            lambda a, b: jnp.where(at.gap > 0, (a - b) / jnp.maximum(at.gap, 1), 0).astype(a.dtype),
            at.sources,
            at.previous,
        )
        predicted = propagate(at.time, d, at.state, at.sources, slope)
        there = sources(at.time + d, predicted)
        slope = jax.tree.map(lambda a, b: (a - b) / d.astype(a.dtype), there, at.sources)
        corrected = propagate(at.time, d, at.state, at.sources, slope)
        error = distance(predicted, corrected, there)
        error = jnp.where(jnp.isfinite(error), error, 0)  # a run that has overflowed is past saving: let it end
        accepted = (error <= rtol) | (d == 1)
        factor = jnp.clip(0.85 * (rtol / jnp.maximum(error, 1e-12)) ** (1 / 3), 0.25, 3.0)
        proposed = jnp.clip(jnp.floor(factor * d), 1, 2.0**30).astype(d.dtype)
        # A step cut short by a stop says nothing against the longer one that was planned.
        proposed = jnp.where(accepted & (d < at.next_d), jnp.maximum(proposed, at.next_d), proposed)
        new = March(at.time + d, corrected, there, at.sources, d, proposed)
        return choose(accepted, new, at._replace(next_d=proposed))

    def leg(at: March, inputs):
        stop, again = inputs
        at = jax.lax.while_loop(lambda at: at.time < stop, lambda at: attempt(at, stop), at)
        seen = measure(at.time, at.state, at.sources)

        def renew():
            fresh = restart(at.state, at.sources)
            new = sources(at.time, fresh)
            return at._replace(
                state=fresh,
                sources=new,
                previous=new,
                gap=jnp.zeros_like(at.gap),
                next_d=jnp.maximum(at.next_d // 4, 1),
            )

        return jax.lax.cond(again, renew, lambda: at), seen

    zero, one = jnp.zeros((), jnp.int64), jnp.ones((), jnp.int64)
    start = sources(zero, state)
    at = March(zero, state, start, start, zero, one)
    return jax.lax.scan(leg, at, (stops.astype(jnp.int64), restarts))[1]
