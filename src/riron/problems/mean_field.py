"""Learning by a mean-field network: a convex loss of the average neuron, an L2 regulariser and an entropy."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..checks import as_matrix, as_positive, as_vector
from ..errors import InputError
from ..models.base import is_known, to_real
from ..models.mean_field import MeanField
from ..models.neurons import Neuron, to_neuron
from .arrays import Rows
from .base import Data, FiniteSum, Objective, Problem
from .losses import MARGIN_LOSSES, Loss, absolute, hinge, softmax, to_loss

CHUNK = 2**20
"""Numbers (particles x samples) of one piece of the full gradient."""


class MeanFieldSum(FiniteSum):
    """The finite sum of a mean-field network; its full gradient is taken in chunks of samples.

    All particles see a chunk at once, so the two matrix products of a gradient (outputs and their pull-back) are done
    once each whatever the chunk, and the (particles x samples) matrix never exists as a whole.
    """

    model: MeanField

    def gradient(self, params: jax.Array, index: Any = None) -> jax.Array:
        chunk = max(CHUNK // len(params), 1)
        if index is not None or chunk >= self.n:
            return super().gradient(params, index)
        chunks = -(-self.n // chunk)
        # The last chunk overlaps the one before it; rows that were seen already have weight 0.
        starts = jnp.minimum(jnp.arange(chunks) * chunk, self.n - chunk)
        seen = jnp.arange(chunks) * chunk - starts

        def part(W: jax.Array, start: jax.Array, skip: jax.Array) -> jax.Array:
            rows = lambda table: jax.lax.dynamic_slice_in_dim(table, start, chunk)
            losses = jax.vmap(self.loss)(self.model(W, rows(self.X)), rows(self.y))
            return jnp.sum(jnp.where(jnp.arange(chunk) < skip, 0, losses)) / self.n

        add = lambda total, place: (total + jax.grad(part)(params, *place), None)
        total, _ = jax.lax.scan(add, jax.grad(self.penalty)(params), (starts, seen))
        return self.model.mobility * total


def product(f: jax.Array, g: jax.Array) -> jax.Array:
    """g f: a loss whose slope is the dual variable g whatever the prediction."""
    return g * f


def frozen(objective: MeanFieldSum, g: jax.Array, ridge: jax.Array) -> MeanFieldSum:
    """The potential V_g(w) + ridge |w|^2 / 2 of dual variables g (n,) as an objective: particles no longer interact.

    Its Langevin dynamics at temperature T tends to exp(-(V_g + ridge |w|^2 / 2) / T), V_g(w) = (1/n) sum g_i h_w(x_i).
    """
    return MeanFieldSum(X=objective.X, y=g, model=objective.model, loss=product, ridge=ridge)


class MeanFieldProblem(Problem):
    """L(mu) = (1/n) sum_i loss(f_mu(x_i), y_i) + lam1 E|w|^2 + lam2 E log mu, for f_mu = E h_w under the law mu of w.

    Up to a constant it is the objective relative to the reference N(0, reference_sd^2 I),
    L_rel(mu) = (1/n) sum_i loss + lam2 KL(mu | N(0, reference_sd^2 I)) >= 0, reference_sd^2 = lam2 / (2 lam1).
    It is a problem on its own data: `simulate(problem, dynamics)` trains `width` particles on it.

    Args:
      X: (n, d) features, finite.
      y: (n,) targets; labels -1 and 1 (or 0 and 1) for the logistic loss and the smoothed hinge.
      neuron: a name (tanh, sigmoid, relu-clipped, ...), a `Neuron`, or a JAX function h(w, x).
      loss: squared, logistic, huber, smoothed_hinge, or a JAX function loss(f, y), convex and differentiable in f.
      lam1: strength of the L2 regulariser lam1 E|w|^2, > 0.
      lam2: temperature, the strength of the entropy, > 0.
      width: number of particles of the networks that are trained.
      start_sd: spread of the particles at the start; the reference's unless given.

    Raises:
      InputError: lam1 or lam2 <= 0, values that are not finite, shapes that do not fit, labels of another kind, a loss
        that is not convex or not differentiable.

    Source: Nitanda, Wu & Suzuki, AISTATS 2022; Mei, Montanari & Nguyen, PNAS 2018.
    """

    data: Data
    model: MeanField
    loss: Loss = eqx.field(static=True)
    lam1: jax.Array
    lam2: jax.Array

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        neuron: str | Neuron | Callable[[jax.Array, jax.Array], jax.Array] = "tanh",
        loss: str | Loss = "squared",
        lam1: ArrayLike,
        lam2: ArrayLike,
        width: int = 1000,
        start_sd: ArrayLike | None = None,
    ):
        for name, value in (("lam1", lam1), ("lam2", lam2)):
            if is_known(value) and not float(np.asarray(value)) > 0:
                raise InputError(
                    f"{name}={float(np.asarray(value))} must be > 0",
                    why="without the L2 regulariser and the entropy there is no reference measure",
                    do="for a run without noise keep lam2 and use the dynamics `particle_flow`",
                )
            if is_known(value):
                as_positive(float(np.asarray(value)), name)
        features, targets = as_matrix(X, "X"), as_vector(y, "y")
        if len(features) != len(targets):
            raise InputError(f"y has {len(targets)} values and X has {len(features)} rows", do="pass one target a row")
        self.loss = convex_loss(loss, targets)
        if self.loss in MARGIN_LOSSES:
            targets = signs(targets)
        self.data = Data(to_real(features), to_real(targets))
        self.lam1, self.lam2 = to_real(lam1), to_real(lam2)
        sd = self.reference_sd if start_sd is None else start_sd
        self.model = MeanField(to_neuron(neuron), features.shape[1], width, sd)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        return {"dual": ("sample",), "prediction": ("sample",)}

    @property
    def X(self) -> jax.Array:
        return self.data.X

    @property
    def y(self) -> jax.Array:
        return self.data.y

    @property
    def law(self) -> Rows:
        return Rows(*self.data)

    @property
    def neuron(self) -> Neuron:
        return self.model.neuron

    @property
    def dim(self) -> int:
        """Number of parameters p of one neuron."""
        return self.neuron.dim(self.X.shape[1])

    @property
    def bound(self) -> float | None:
        """sup |h|; None where the neuron is unbounded."""
        return self.neuron.bound

    @property
    def ridge(self) -> jax.Array:
        """2 lam1: it multiplies the model's penalty mean_j |w_j|^2 / 2."""
        return 2 * self.lam1

    @property
    def temperature(self) -> jax.Array:
        """lam2, the temperature of the Langevin dynamics of one particle."""
        return self.lam2

    @property
    def reference_sd(self) -> jax.Array:
        """Standard deviation of the reference measure: sqrt(lam2 / (2 lam1))."""
        return jnp.sqrt(self.lam2 / (2 * self.lam1))

    def objective(self, data: Any) -> MeanFieldSum:
        X, y = data
        self.check(X, y)
        return MeanFieldSum(X=X, y=y, model=self.model, loss=self.loss, ridge=self.ridge)

    def features(self, W: jax.Array) -> jax.Array:
        """h_w(x_i) of particles W (N, p) at the training rows: (N, n)."""
        return self.neuron.features(W, self.X)

    def losses(self, z: jax.Array) -> jax.Array:
        """loss(z_i, y_i) of predictions z (n,): (n,)."""
        return jax.vmap(self.loss)(z, self.y)

    def slopes(self, z: jax.Array) -> jax.Array:
        """The derivatives of the losses in the predictions: (n,)."""
        return jax.vmap(jax.grad(self.loss))(z, self.y)

    def curvatures(self, z: jax.Array) -> jax.Array:
        """The second derivatives of the losses in the predictions: (n,)."""
        return jax.vmap(jax.grad(jax.grad(self.loss)))(z, self.y)

    def potential(self, g: jax.Array, W: jax.Array) -> jax.Array:
        """V_g(w) = (1/n) sum_i g_i h_w(x_i) of dual variables g (n,) at particles W (N, p): (N,)."""
        return self.features(W) @ g / len(g)

    def relative_objective(self, z: jax.Array, divergence: ArrayLike) -> jax.Array:
        """L_rel of a law with predictions z (n,) and Kullback-Leibler divergence `divergence` from the reference."""
        return jnp.mean(self.losses(z)) + self.lam2 * jnp.asarray(divergence)


class Watched(MeanFieldProblem):
    """The same problem, which also records the network's `prediction` at the training rows."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)

    def measure(self, objective: Objective, params: jax.Array) -> dict[str, jax.Array]:
        return {**super().measure(objective, params), "prediction": self.model(params, self.X)}


SMOOTHED: dict[Loss, str] = {hinge: "smoothed_hinge", absolute: "huber"}


def convex_loss(value: str | Loss, y: np.ndarray) -> Loss:
    """A loss that is convex and differentiable in the prediction, or an InputError that names one that is."""
    loss = to_loss(value)
    if loss in SMOOTHED:
        raise InputError(
            f"the loss '{loss.__name__}' is not differentiable", do=f"use its smoothed form '{SMOOTHED[loss]}'"
        )
    if loss is softmax:
        raise InputError("the softmax loss needs several outputs and a mean-field network has one", do="use logistic")
    if isinstance(value, str):
        return loss
    name = getattr(loss, "__name__", "loss")
    targets = np.unique(y[:: max(len(y) // 16, 1)])
    reach = 3 * max(float(np.abs(y).max()), 1.0)
    nodes = np.linspace(-reach, reach, 2001) + 0.1234e-3
    with jax.enable_x64(True):
        slope = jax.jit(jax.vmap(jax.vmap(jax.grad(loss), in_axes=(0, None)), in_axes=(None, 0)))
        slopes = np.asarray(slope(jnp.asarray(nodes), jnp.asarray(targets)), np.float64)
        if not np.isfinite(slopes).all():
            raise InputError(f"the loss '{name}' or its derivative is not finite for predictions within {reach:.3g}")
        rises = np.diff(slopes, axis=1)
        if rises.min() < -1e-9 * (1 + np.abs(slopes).max()):
            place = np.unravel_index(rises.argmin(), rises.shape)
            raise InputError(
                f"the loss '{name}' is not convex: its derivative falls near prediction {nodes[place[1]]:.3g} at "
                f"target {targets[place[0]]:.3g}",
                do="use squared, logistic, huber or smoothed_hinge",
            )
        if (jump := _largest_jump(slope, nodes, targets, rises)) is not None:
            raise InputError(
                f"the loss '{name}' is not differentiable near prediction {jump:.3g}",
                do="smooth it, or use huber (for absolute errors) or smoothed_hinge (for margins)",
            )
    return loss


def _largest_jump(slope: Callable, nodes: np.ndarray, targets: np.ndarray, rises: np.ndarray) -> float | None:
    """Where the steepest rise of the derivative stays a jump when its interval is halved 25 times; else None."""
    row, column = np.unravel_index(rises.argmax(), rises.shape)
    target, rise = targets[row], rises[row, column]
    low, high = nodes[column], nodes[column + 1]
    for _ in range(25):
        middle = (low + high) / 2
        left, centre, right = (float(s) for s in slope(np.array([low, middle, high]), np.array([target]))[0])
        low, high = (low, middle) if centre - left > right - centre else (middle, high)
    left, right = (float(s) for s in slope(np.array([low, high]), np.array([target]))[0])
    return low if rise > 1e-6 and right - left > rise / 4 else None


def signs(y: np.ndarray) -> np.ndarray:
    """Labels -1 and 1, from these or from 0 and 1."""
    values = np.unique(y)
    if np.isin(values, (-1.0, 1.0)).all():
        return y
    if np.isin(values, (0.0, 1.0)).all():
        return 2 * y - 1
    other = values[~np.isin(values, (-1.0, 0.0, 1.0))]
    shown = f"{other[0]:g}" if len(other) else "-1 and 0 together"
    raise InputError(f"the labels y hold {shown}", do="pass -1 and 1, or 0 and 1")
