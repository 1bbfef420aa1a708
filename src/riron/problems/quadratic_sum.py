"""A finite sum of quadratics with diagonal curvature: where the laws of all Langevin methods are known exactly."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..checks import as_matrix
from ..errors import InputError
from ..models.base import Params, to_real
from . import losses
from .base import Data, Law, Objective, Problem
from .log_density import NoLaw, Position
from .sampling import uniform_index


class QuadraticObjective(Objective):
    """F = mean_i f_i, f_i(x) = sum_j h_ij x_j^2 / 2 - b_ij x_j."""

    h: jax.Array
    b: jax.Array
    mean_h: jax.Array
    mean_b: jax.Array
    model: Position
    ridge: jax.Array
    loss: losses.Loss = eqx.field(static=True, default=losses.squared)

    @property
    def n(self) -> int:
        return self.h.shape[0]

    def outputs(self, params: Params, index: Any = None) -> tuple[jax.Array, jax.Array]:
        raise InputError("a quadratic sum has no outputs and no targets")

    def choose(self, key: jax.Array, batch: int) -> jax.Array:
        return uniform_index(key, self.n, (batch,))

    def losses(self, params: Params, index: Any = None) -> jax.Array:
        h, b = self._rows(index)
        return jnp.sum(h * params**2 / 2 - b * params, axis=-1)

    def penalty(self, params: Params) -> jax.Array:
        return jnp.zeros(())

    def gradient(self, params: Params, index: Any = None) -> Params:
        if index is None:  # a sum over all rows that does not depend on the parameters
            return self.mean_h * params - self.mean_b
        h, b = self._rows(index)
        return jnp.mean(h, axis=0) * params - jnp.mean(b, axis=0)

    def _rows(self, index: Any) -> tuple[jax.Array, jax.Array]:
        if index is None:
            return self.h, self.b
        rows = lambda table: table.at[index].get(mode="promise_in_bounds")
        return rows(self.h), rows(self.b)


class QuadraticSum(Problem):
    """f_i(x) = sum_j h_ij x_j^2 / 2 - b_ij x_j for i = 1 .. n, with minimum x* = mean b / mean h.

    Pass it to `simulate` with neither n nor data. It measures, for each coordinate, `displacement` x - x* and
    `second_moment` (x - x*)^2; the exact means are in `riron.theory.langevin_laws`.

    Args:
      h: (n, d) curvatures, of positive mean in each coordinate.
      b: (n, d) slopes at 0.
      start: (d,) distance of the start from x*, or one number for all coordinates.

    Raises:
      InputError: shapes that do not fit, values that are not finite, a mean curvature that is not > 0.
    """

    data: Data
    start: jax.Array
    loss: ClassVar[losses.Loss] = staticmethod(losses.squared)

    def __init__(self, h: ArrayLike, b: ArrayLike, start: ArrayLike = 0.0):
        curvature, slope = as_matrix(h, "h"), as_matrix(b, "b")
        if curvature.shape != slope.shape:
            raise InputError(f"h has shape {curvature.shape} and b has {slope.shape}", do="give one slope each")
        mean = curvature.mean(axis=0)
        if mean.min() <= 0:
            place = int(mean.argmin())
            raise InputError(
                f"the mean curvature of coordinate {place} is {mean[place]:g}", why="the law has no stationary state"
            )
        self.data = Data(to_real(curvature), to_real(slope))
        self.start = to_real(np.broadcast_to(np.asarray(start, float), mean.shape))

    @property
    def law(self) -> Law:
        return NoLaw()

    @property
    def ridge(self) -> jax.Array:
        return jnp.zeros(())

    @property
    def minimum(self) -> jax.Array:
        """x*, the mode."""
        return self.data.y.mean(axis=0) / self.data.X.mean(axis=0)

    @property
    def model(self) -> Position:
        return Position(self.minimum + self.start)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        return {"displacement": ("coordinate",), "second_moment": ("coordinate",)}

    def objective(self, data: Any) -> QuadraticObjective:
        h, b = data
        return QuadraticObjective(
            h=h, b=b, mean_h=h.mean(axis=0), mean_b=b.mean(axis=0), model=self.model, ridge=self.ridge
        )

    def measure(self, objective: Objective, params: Params) -> dict[str, jax.Array]:
        away = params - self.minimum
        return {"displacement": away, "second_moment": away**2}
