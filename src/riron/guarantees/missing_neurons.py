"""A ReLU network above its loss floor gets the neurons that the floor names, and is trained on."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_positive
from ..errors import InputError
from .directions import Directions
from .loss_floor import LossFloor, floor_and_directions
from .penalised import Setting, read_setting
from .relu_networks import ReLUNetwork

SMALL = 0.03  # norm of a new neuron's weights: the objective falls from there on, whatever the others do
STEP = 0.01  # of Adam
ENOUGH = 1e-4  # relative gap at which no further round is worth while


@dataclass(frozen=True)
class Improved:
    """A network with the missing neurons, and the floors before and after.

    Attributes:
      network: as arrays W, b, a, b0. added: neurons added in all. rounds: made.
      before, after: LossFloor of the network given and of this one.
    """

    network: ReLUNetwork
    before: LossFloor
    after: LossFloor
    added: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.added} neurons added in {self.rounds} rounds\nbefore: {self.before}\nafter: {self.after}"


def improve(
    net: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    weight_decay: Any = None,
    bias_decayed: bool | None = None,
    loss: str | None = None,
    rounds: int = 3,
    iterations: int = 1500,
    starts: int = 600,
    steps: int = 300,
    seed: int = 0,
) -> Improved:
    """Adds the neurons with |phi| > c, up to 20 a round, with small weights, and retrains all by Adam.

    Args:
      net, X, y, weight_decay, bias_decayed, loss, starts, steps, seed: as in `loss_floor`.
      rounds: at most; fewer if the gap falls below 0.01 % or no neuron is missing.
      iterations: of full-batch Adam in each round.

    Returns: an Improved; the network is given back as arrays.

    Raises:
      InputError: as `loss_floor`; rounds < 1.
    """
    if rounds < 1:
        raise InputError(f"rounds={rounds} must be a whole number >= 1")
    as_positive(iterations, "iterations")
    setting = read_setting(net, X, y, weight_decay=weight_decay, bias_decayed=bias_decayed, loss=loss)
    before, found = floor_and_directions(setting, starts, steps, seed)
    after, added, made = before, 0, 0
    for made in range(1, rounds + 1):
        new = missing(found, setting.c)
        grown = with_neurons(setting, found.V[new], -found.signs[new])
        trained = retrain(setting.with_network(grown), iterations)
        floored, found = floor_and_directions(setting.with_network(trained), starts, steps, seed + made)
        if floored.objective > after.objective:
            break
        setting, after, added = setting.with_network(trained), floored, added + len(new)
        if not after.objective - after.floor > ENOUGH * after.objective and after.status != "too-small-decay":
            break
    return Improved(setting.network, before, after, added, made)


def missing(found: Directions, c: float) -> np.ndarray:
    """Indices of the directions that would lower the objective; they are distinct already."""
    return np.flatnonzero(found.values > c)


def with_neurons(setting: Setting, V: np.ndarray, signs: np.ndarray) -> ReLUNetwork:
    """The network with neurons in these directions, whose output weights have these signs."""
    net, d = setting.network, setting.X.shape[1]
    new = SMALL * V
    b = None if net.b is None else np.concatenate([net.b, new[:, d] if new.shape[1] > d else np.zeros(len(new))])
    return ReLUNetwork(np.vstack([net.W, new[:, :d]]), b, np.concatenate([net.a, SMALL * signs]), net.b0)


def retrain(setting: Setting, iterations: int) -> ReLUNetwork:
    """Full-batch Adam on all parameters in float64, its step falling to 0: kinks stop quasi-Newton methods early."""
    net = setting.network
    m = net.width
    free = {"decayed": setting.c, "free": 0.0, "none": 0.0}
    decay = Parameters(setting.c, free[setting.bias], setting.c, free[setting.output])
    moves = Parameters(1.0, float(setting.bias != "none"), 1.0, float(setting.output != "none"))
    start = Parameters(net.W, np.zeros(m) if net.b is None else net.b, net.a, np.float64(net.b0 or 0.0))
    with jax.enable_x64(True):
        found = _adam(start, decay, moves, setting.X, setting.y, iterations, loss=setting.loss)
        W, b, a, b0 = (np.asarray(leaf) for leaf in found)
    return ReLUNetwork(W, None if net.b is None else b, a, None if net.b0 is None else float(b0))


class Parameters(NamedTuple):
    """Hidden weights and biases, output weights and bias; or one number for each."""

    W: Any
    b: Any
    a: Any
    b0: Any


@partial(jax.jit, static_argnames=("loss",))
def _adam(start, decay, moves, X, y, iterations, *, loss):
    def objective(theta):
        f = jax.nn.relu(X @ theta.W.T + theta.b) @ theta.a + theta.b0
        losses = (f - y) ** 2 / 2 if loss == "squared" else jnp.logaddexp(0, -y * f)
        return jnp.mean(losses) + sum(c * jnp.sum(leaf**2) for c, leaf in zip(decay, theta, strict=True)) / 2

    def step(k, state):
        theta, first, second, best, least = state
        value, gradient = jax.value_and_grad(objective)(theta)
        better = value < least
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), theta, best)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g**2, second, gradient)
        size = STEP * (1 + jnp.cos(jnp.pi * k / iterations)) / 2
        mean, scale = 1 - 0.9 ** (k + 1), 1 - 0.99 ** (k + 1)
        move = lambda p, m, v, on: p - on * size * (m / mean) / (jnp.sqrt(v / scale) + 1e-10)
        return jax.tree.map(move, theta, first, second, moves), first, second, best, jnp.minimum(value, least)

    zeros = jax.tree.map(jnp.zeros_like, start)
    theta, _, _, best, least = jax.lax.fori_loop(0, iterations, step, (start, zeros, zeros, start, jnp.inf))
    return jax.tree.map(lambda new, old: jnp.where(objective(theta) < least, new, old), theta, best)
