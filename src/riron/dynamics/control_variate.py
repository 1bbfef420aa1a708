"""Control variates: a minibatch gradient corrected by the same samples at one fixed centre near the mode."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..models.base import Params, to_real
from ..problems.base import Objective
from .base import count
from .gradients import Estimator, Minibatch
from .linear_models import is_linear, mean_gradient, slopes, take
from .svrg import check_sum, corrected, to_rows


class ControlVariate(Estimator):
    """g = grad_B(x) - grad_B(centre) + grad(centre), the centre fixed: SVRG that never renews its snapshot.

    A step spends 2 batch per-sample gradients, and the n at the centre are counted at step 0. For a linear model
    (`is_linear`) the numbers that make up the gradients at the centre are kept, and a step spends `batch`.

    Args:
      rows: samples a step: a batch size (rows without replacement), or a sampling such as `Minibatch(8)`.
      centre: parameters near the mode (see `mode`), of the structure and shape of those that are sampled.

    Source: Baker, Fearnhead, Fox & Nemeth, Statistics and Computing 2019.
    """

    rows: Minibatch = eqx.field(converter=to_rows)
    centre: Params = eqx.field(converter=lambda tree: jax.tree.map(to_real, tree))

    def init(self, objective: Objective, params: Params) -> Any:
        shapes = lambda tree: [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
        if shapes(params) != shapes(self.centre) or jax.tree.structure(params) != jax.tree.structure(self.centre):
            raise InputError(f"the centre has shapes {shapes(self.centre)} and the parameters have {shapes(params)}")
        kept = slopes(objective, self.centre).values if is_linear(objective) else ()
        return self.rows.init(objective, params), objective.gradient(self.centre), kept

    def draw(self, key: jax.Array, objective: Objective) -> Any:
        return self.rows.draw(key, objective)

    def __call__(self, objective, params, memory, draw, t):
        order, anchor, kept = memory
        index, order = self.rows.choose(objective, order, draw, t)
        if is_linear(objective):
            here = slopes(objective, params, index)
            moved = mean_gradient(here._replace(values=here.values - take(kept, index)))
            pull = jax.grad(objective.penalty)
            gradient, spent = moved + anchor + pull(params) - pull(self.centre), self.rows.batch
        else:
            gradient, spent = corrected(objective, params, self.centre, anchor, index), 2 * self.rows.batch
        return gradient, (order, anchor, kept), count(spent + (t == 0) * (objective.n or 0))

    def check(self, objective: Objective) -> None:
        check_sum(self, objective)


def mode(objective: Objective, start: Params, *, tolerance: float = 1e-6, iterations: int = 1000) -> Params:
    """A minimum of the objective, by L-BFGS with the full gradient from `start`.

    Args:
      objective: a finite sum, or the potential of a log-density.
      start: parameters, where the gradient is finite.
      tolerance: largest entry of the gradient at the end, relative to that at the start (or to 1 if that is larger).
      iterations: at most so many.

    Raises:
      InputError: a gradient that is not finite (naming the first sample whose it is), or no minimum found.
    """
    from jax.flatten_util import ravel_pytree
    from scipy.optimize import minimize

    refuse_not_finite(objective, start)
    first, unravel = ravel_pytree(start)
    both = jax.jit(lambda x: (objective.value(unravel(x)), ravel_pytree(jax.grad(objective.value)(unravel(x)))[0]))
    scale = max(1.0, float(jnp.abs(both(first)[1]).max()))

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = both(jnp.asarray(x, first.dtype))
        return float(value), np.asarray(slope, np.float64)

    options = {"maxiter": iterations, "gtol": tolerance * scale, "ftol": 0.0}
    found = minimize(fun, np.asarray(first, np.float64), jac=True, method="L-BFGS-B", options=options)
    left = float(np.abs(found.jac).max())
    rounding = 100 * float(jnp.finfo(first.dtype).eps) ** 0.5  # where the value no longer tells two points apart
    if not left <= max(10 * tolerance, rounding) * scale:
        raise InputError(
            f"no mode was found: the gradient is still {left:.2g} after {found.nit} iterations",
            do="pass a better start, more iterations, or a centre of your own",
        )
    return unravel(jnp.asarray(found.x, first.dtype))


def refuse_not_finite(objective: Objective, params: Params) -> None:
    """InputError that names the first sample whose gradient at `params` is not finite.

    Args:
      objective: a finite sum, or a log-density.
      params: where.
    """
    finite = lambda tree: jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
    if bool(finite(objective.gradient(params))):
        return
    one = jax.jit(lambda i: finite(jax.grad(lambda p: objective.losses(p, i[None])[0])(params)))
    bad = [] if objective.n in (None, 1) else np.flatnonzero(~np.asarray(jax.lax.map(one, jnp.arange(objective.n))))
    which = f"; the first of {len(bad)} such samples is number {bad[0]}" if len(bad) else ""
    raise InputError(f"the gradient at the start is not finite{which}", do="mend the sample, or start elsewhere")
