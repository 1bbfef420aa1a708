"""Networks as the forecast sees them: outputs and Jacobians at a flat vector of parameters, from any library."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ...errors import InputError
from ...models.base import Model, to_real


class Network(Protocol):
    """Outputs and derivatives in float64; `start` are the trained parameters (P,) as one vector."""

    start: np.ndarray

    def outputs(self, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
        """(n, K)."""
        ...

    def jacobian(self, theta: np.ndarray, X: np.ndarray, first: int, last: int, max_bytes: float) -> np.ndarray:
        """(n, K, last - first) derivatives of the outputs by the parameters first .. last - 1."""
        ...

    def pull(self, theta: np.ndarray, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(P,) gradient of sum(weights * outputs), weights (n, K)."""
        ...


class FromStart(Model):
    """A network less its outputs at the start, as a model to be trained; the penalty is that of the change."""

    apply: Callable[[Any, jax.Array], jax.Array] = eqx.field(static=True)
    start: Any

    def init(self, key: jax.Array) -> Any:
        """The start, whatever the key."""
        return jax.tree.map(to_real, self.start)

    def __call__(self, params: Any, X: jax.Array) -> jax.Array:
        return self.apply(params, X) - self.apply(self.init(jax.random.key(0)), X)

    def penalty(self, params: Any) -> jax.Array:
        return super().penalty(jax.tree.map(jnp.subtract, params, self.init(jax.random.key(0))))


class JaxNetwork:
    """apply(params, X) -> (n,) or (n, K) with any pytree of parameters; leaves that are not real arrays are kept."""

    def __init__(self, apply: Callable[[Any, jax.Array], jax.Array], params: Any):
        with jax.enable_x64(True):
            trained, kept = eqx.partition(params, eqx.is_inexact_array)
            leaves = jax.tree.leaves(trained)
            if not leaves:
                raise InputError("the network has no parameters that are arrays of real numbers", do="pass them")
            if any(jnp.iscomplexobj(leaf) for leaf in leaves):
                raise InputError("the network has complex parameters", do="write them as two real arrays each")
            trained = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), trained)
            flat, unravel = ravel_pytree(trained)
        self.start = np.asarray(flat)

        def of_tree(trained, X):
            f = apply(eqx.combine(trained, kept), X)
            return f[:, None] if f.ndim == 1 else f

        def outputs(theta, X):
            return of_tree(unravel(theta), X)

        self.model = FromStart(of_tree, trained)

        @partial(jax.jit, static_argnames=("size", "rows"))
        def jacobian(theta, X, first, size, rows):
            def at_row(x):
                def of_block(block):
                    return outputs(jax.lax.dynamic_update_slice(theta, block, (first,)), x[None])[0]

                return jax.jacrev(of_block)(jax.lax.dynamic_slice(theta, (first,), (size,)))

            return jax.lax.map(at_row, X, batch_size=rows)

        @jax.jit
        def pull(theta, X, weights):
            return jax.grad(lambda t: jnp.sum(weights * outputs(t, X)))(theta)

        self._outputs, self._jacobian, self._pull = jax.jit(outputs), jacobian, pull

    def outputs(self, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(self._outputs(theta, X), np.float64)

    def jacobian(self, theta: np.ndarray, X: np.ndarray, first: int, last: int, max_bytes: float) -> np.ndarray:
        with jax.enable_x64(True):
            outputs = jax.eval_shape(self._outputs, theta, X).shape[1]
            rows = int(np.clip(max_bytes / (8 * outputs * len(theta)), 1, len(X)))
            return np.asarray(self._jacobian(theta, X, first, last - first, rows), np.float64)

    def pull(self, theta: np.ndarray, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(self._pull(theta, X, weights), np.float64)


def checked_outputs(network: Network, X: np.ndarray, name: str) -> np.ndarray:
    """(n, K) outputs at the start; InputError unless each row has finite outputs of its own."""
    try:
        outputs = network.outputs(network.start, X)
        alone = network.outputs(network.start, X[:1])
    except InputError:
        raise
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the network fails on {name} of shape {X.shape} ({type(error).__name__}: {first_line})",
            do="it must take a matrix of rows and give one output, or K, for each row",
        ) from error
    if outputs.ndim != 2 or len(outputs) != len(X):
        raise InputError(
            f"the network's outputs have shape {outputs.shape} for {len(X)} rows of {name}",
            do="give (n,) or (n, K) outputs for X of shape (n, d)",
        )
    bad = ~np.isfinite(outputs).all(axis=1)
    if bad.any():
        raise InputError(
            f"the network's outputs are not finite at its start for {int(bad.sum())} rows of {name}, "
            f"first row {int(np.argmax(bad))}",
            do="check its initialisation and these rows",
        )
    # An antisymmetric start has outputs that are rounding alone, so there is an absolute tolerance too.
    if not np.allclose(outputs[:1], alone, rtol=1e-5, atol=1e-5 * (1 + np.abs(outputs).max())):
        raise InputError(
            f"the network's output for the first row of {name} depends on the other rows (batch normalisation?)",
            do="use a network that treats each row on its own, in evaluation mode without dropout",
        )
    return outputs


def as_network(apply: Any, params: Any = None) -> Network:
    """The network of `apply` and `params`, or of a module that holds its own parameters (Equinox, PyTorch)."""
    from .torch_networks import TorchNetwork, is_torch_module

    if is_torch_module(apply):
        return TorchNetwork(apply)
    if params is None and isinstance(apply, eqx.Module) and callable(apply):
        return JaxNetwork(lambda module, X: jax.vmap(module)(X), apply)  # Equinox modules take one row
    if not callable(apply):
        raise InputError(
            f"the network is a {type(apply).__name__}, which cannot be called",
            do="pass apply(params, X) and params, an Equinox module or a PyTorch module",
        )
    if params is None:
        raise InputError("apply is given without params", do="pass the parameters at the start")
    function: Any = apply
    return JaxNetwork(function, params)
