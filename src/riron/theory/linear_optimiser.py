"""Optimisers that are linear in each eigendirection of a least-squares problem: plain SGD, heavy ball, Nesterov.

In the direction of curvature h the state x = (parameter, velocity) moves by x <- M x + b g, with g what the gradient
has beyond h times the parameter (targets, noise), in PyTorch's convention

    heavy ball  M = [[1 - eta h, -eta m], [h, m]],                 b = (-eta, 1)
    Nesterov    M = [[1 - eta (1 + m) h, -eta m^2], [h, m]],       b = (-eta (1 + m), 1)

Powers of M go through its two eigenvalues 1 - l, complex where the direction oscillates: then many steps of pairs of
directions need products of per-direction powers only, with no matrix power for each pair.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..errors import InputError

# Where the two eigenvalues meet, M has one eigenvector. They are kept apart by this share of their mean, which moves
# them by its square: nothing against rounding, while the digits lost (its inverse square) leave enough in float64.
APART = 1e-5
SMALL = 1e-5  # below this decay over an interval, quotients lose digits: Taylor series take over


class Optimiser(NamedTuple):
    """momentum in [0, 1); nesterov: 1 or 0. `Optimiser(None)` is plain SGD: the parameter is all of the state."""

    momentum: jax.Array | None
    nesterov: jax.Array | float = 0.0

    @property
    def size(self) -> int:
        return 1 if self.momentum is None else 2

    @property
    def look_ahead(self) -> jax.Array | float:
        """How much more a step moves along a fresh gradient than along a plain step."""
        return 1.0 if self.momentum is None else 1 + self.nesterov * self.momentum

    @property
    def stretch(self) -> jax.Array | float:
        """How many times further than its first step a gradient moves the parameter in the end."""
        return 1.0 if self.momentum is None else 1 / (1 - self.momentum)

    def kick(self, eta: jax.Array) -> list[jax.Array]:
        """b: what a unit gradient does to each part of the state."""
        return [-eta * self.look_ahead] + [jnp.ones_like(eta)] * (self.size - 1)

    def carried(self, eta: jax.Array) -> jax.Array:
        """-M[0, 1]: how far one unit of velocity moves the parameter."""
        assert self.momentum is not None
        return eta * self.momentum * jnp.where(jnp.asarray(self.nesterov) > 0, self.momentum, 1.0)

    def coast(self, eta: jax.Array, x: list) -> list:
        """What a step without any gradient makes of a state (M at h = 0)."""
        if self.momentum is None:
            return list(x)
        return [x[0] - self.carried(eta) * x[1], self.momentum * x[1]]

    def modes(self, eta: jax.Array, damped: jax.Array) -> "Modes":
        """Eigenvalues and eigenvectors of M at curvatures `damped` (ridge included), in float64."""
        h = damped.astype(jnp.float64)
        eta = jnp.asarray(eta, jnp.float64)
        if self.momentum is None:
            one = jnp.ones_like(h)
            return Modes([eta * h], [[one]], [[one]], [-eta * one])
        eta = jnp.maximum(eta, 1e-9 / h[0])  # a step of 0 leaves the velocity without a direction
        m = self.momentum
        half = (1 - m + eta * self.look_ahead * h) / 2
        root = jnp.sqrt((half**2 - eta * h).astype(jnp.complex128))
        root = jnp.where(jnp.abs(root) < APART * half, APART * half, root)
        # Sum 2 half and product eta h of the two l: no digits are lost in the small one.
        fast = half + root
        slow = eta * h / fast
        carried = self.carried(eta)
        velocity = [(l - eta * self.look_ahead * h) / carried for l in (slow, fast)]
        gap = velocity[1] - velocity[0]
        reads = [[velocity[1] / gap, -1 / gap], [-velocity[0] / gap, 1 / gap]]
        writes = [[jnp.ones_like(root), v] for v in velocity]
        b = self.kick(eta)
        return Modes([slow, fast], reads, writes, [r[0] * b[0] + r[1] * b[1] for r in reads])


def optimiser_of(momentum: float, nesterov: bool) -> Optimiser:
    """InputError if momentum is outside [0, 1), or Nesterov's step is asked for without it."""
    if not 0 <= momentum < 1:
        raise InputError(f"momentum={momentum} is outside [0, 1)")
    if momentum == 0:
        if nesterov:
            raise InputError("nesterov is asked for without a momentum", do="pass momentum > 0")
        return Optimiser(None)
    with jax.enable_x64(True):
        return Optimiser(jnp.asarray(momentum, jnp.float64), jnp.asarray(float(nesterov), jnp.float64))


class Modes(NamedTuple):
    """M in its eigenbasis, for vectors of curvatures: lists over the eigenvalues s (and parts u of the state).

    loss[s]: 1 - eigenvalue; reads[s][u]: coefficient of eigenvector s in part u; writes[s][u]: part u of eigenvector s,
    1 for the parameter; kicked[s]: coefficient of eigenvector s in b.
    """

    loss: list[jax.Array]
    reads: list[list[jax.Array]]
    writes: list[list[jax.Array]]
    kicked: list[jax.Array]

    def lost(self, d: jax.Array) -> list[jax.Array]:
        """1 - eigenvalue^d."""
        return [compound(l, d) for l in self.loss]


def compound(loss: jax.Array, d: jax.Array) -> jax.Array:
    """1 - (1 - loss)^d by repeated squaring of what is lost, so that small losses keep their digits."""

    def square(bit, carry):
        total, base = carry
        total = jnp.where((d >> bit) & 1, total + base - total * base, total)
        return total, base * (2 - base)

    return jax.lax.fori_loop(0, 31, square, (jnp.zeros_like(loss), loss))[0]


class Sums(NamedTuple):
    """Repeated sums of the powers of lambda over j < d: of lambda^j, of `first` over j, of `second` over j."""

    first: jax.Array
    second: jax.Array
    third: jax.Array


def sums(loss: jax.Array, lost: jax.Array, d: jax.Array) -> Sums:
    """Sums for lambda = 1 - loss, given lost = 1 - lambda^d."""
    real = d.astype(jnp.float64)
    pairs = real * (real - 1) / 2
    triples = pairs * (real - 2) / 3
    quadruples = triples * (real - 3) / 4
    small = below(loss, SMALL / real)
    inverse = reciprocal(jnp.where(small, 1, loss))
    first = jnp.where(small, real - pairs * loss, lost * inverse)
    second = jnp.where(small, pairs - triples * loss, (real - first) * inverse)
    third = jnp.where(small, triples - quadruples * loss, (pairs - second) * inverse)
    return Sums(first, second, third)


def below(z: jax.Array, bound: jax.Array) -> jax.Array:
    """|z| < bound, without the square root (a third of the time of a long step)."""
    return jnp.real(z) ** 2 + jnp.imag(z) ** 2 < bound**2


def reciprocal(z: jax.Array) -> jax.Array:
    """1 / z for numbers near 1 in size: the general complex division guards against overflow, slowly."""
    return jnp.conj(z) / (jnp.real(z) ** 2 + jnp.imag(z) ** 2)


class Advance(NamedTuple):
    """What d steps do to the state of each direction (vectors of curvatures come first).

    x <- power x + kicked g + drifted g', for a gradient g + g' j at step j; and to the sum of the parameter over
    these steps: sum += total x + kicked_sum g + drifted_sum g'.
    """

    power: jax.Array
    kicked: jax.Array
    drifted: jax.Array
    total: jax.Array
    kicked_sum: jax.Array
    drifted_sum: jax.Array


def advance(modes: Modes, d: jax.Array) -> Advance:
    """Advance of single directions by d steps."""
    size = len(modes.loss)
    over = [sums(l, lost, d) for l, lost in zip(modes.loss, modes.lost(d), strict=True)]
    kept = [1 - lost for lost in modes.lost(d)]

    def collect(weights, reads: bool):
        """Sum over eigenvectors of writes x weights (x reads), as a real array."""
        if not reads:
            return jnp.stack([sum(modes.writes[s][u] * weights[s] for s in range(size)).real for u in range(size)], -1)
        table = [
            [sum(modes.writes[s][u] * weights[s] * modes.reads[s][v] for s in range(size)).real for v in range(size)]
            for u in range(size)
        ]
        return jnp.stack([jnp.stack(row, -1) for row in table], -2)

    kicks = lambda name: [b * getattr(o, name) for b, o in zip(modes.kicked, over, strict=True)]
    return Advance(
        power=collect(kept, True),
        kicked=collect(kicks("first"), False),
        drifted=collect(kicks("second"), False),
        total=collect([o.first for o in over], True)[..., 0, :],
        kicked_sum=collect(kicks("second"), False)[..., 0],
        drifted_sum=collect(kicks("third"), False)[..., 0],
    )
