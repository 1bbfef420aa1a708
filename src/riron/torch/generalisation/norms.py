"""What the norm bounds need, measured on a network read as layers: norms, margins, and Arora's cushions."""

import math
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ...guarantees.network_norms import LayerNorms, NetworkNorms
from .feedforward import FeedForward, Layer
from .operators import Operator, operators
from .watching import NotFeedForward

ROWS = 512  # in one pass
CUSHION_ROWS = 256  # examples on which Jacobians are taken
LARGEST_JACOBIAN = 2**24  # entries


def margins(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """f_y - max_{k != y} f_k, (n,), from outputs (n, K)."""
    rows = np.arange(len(labels))
    others = np.array(outputs, dtype=np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return own - others.max(axis=1)


def measure_norms(network: FeedForward, X: Any, margins_: np.ndarray, init: FeedForward | None = None) -> NetworkNorms:
    """Norms of every layer as an operator, and of the inputs.

    Args:
      network: the layers. X: (n, ...) training inputs. margins_: (n,) on the training pairs.
      init: the same chain with weights fixed before the data, for norms of differences.

    Raises:
      NotFeedForward: a layer that is zero, or another structure of `init`.
    """
    matrices = operators(network.layers)
    starts = [None] * len(matrices) if init is None else operators(init.layers)
    if len(starts) != len(matrices):
        raise NotFeedForward(f"init has {len(starts)} layers and the network {len(matrices)}")
    outputs = math.prod(network.layers[-1].outputs)
    layers = []
    for k, (matrix, start) in enumerate(zip(matrices, starts, strict=True)):
        layer = matrix.layer
        if start is not None and start.layer.core.weight.shape != layer.core.weight.shape:
            raise NotFeedForward(f"'{layer.name}' has another shape in init")
        rows = matrix.rows()
        spectral = matrix.spectral()
        if spectral == 0:
            raise NotFeedForward(f"'{layer.name}' is zero: the network is constant")
        last = k == len(matrices) - 1
        layers.append(
            LayerNorms(
                spectral=spectral,
                frobenius=math.sqrt(float((rows**2).sum()) + matrix.carries),
                group=float(rows.sum()) + matrix.carries,
                inputs=matrix.inputs,
                units=matrix.outputs,
                parameters=layer.parameters,
                thresholds=max(outputs - 1, 1) if last else _thresholds(layer),
                degree=1 + sum(step.kind == "scale" for step in layer.before),
                change=None if start is None else matrix.change(start),
            )
        )
    parts = [x.double().flatten(1).square().sum(1) for x in X.detach().cpu().split(ROWS)]
    squares = torch.cat(parts).numpy() + matrices[0].appended
    rows = matrices[-1].rows()
    return NetworkNorms(layers, rows.numpy(), np.sqrt(squares), margins_)


def _thresholds(layer: Layer) -> int:
    """Where the pieces of the network change: once a ReLU unit, once a pair of places under a maximum."""
    count = 0
    for step in layer.activation:
        places = math.prod(step.after)
        if step.kind == "relu":
            count += places
        elif step.kind == "max":
            window = step.window or math.prod(step.before)
            count += places * window * (window - 1) // 2
    return count


def last_features(network: FeedForward, X: Any) -> tuple[np.ndarray | None, float]:
    """What the last layer reads, (n, m) with the appended 1, and the largest norm of its rows.

    Returns: None for the features where the last layer is not fully connected.
    """
    last = network.layers[-1]
    if not last.core.dense or any(step.kind != "reshape" for step in last.after):
        return None, 0.0
    matrix = operators(network.layers)[-1]
    found = []
    with torch.no_grad():
        for x in X.detach().cpu().split(ROWS):
            phi = x.double()
            for layer in network.layers[:-1]:
                phi = layer.activate(layer.affine(phi))
            found.append(phi.flatten(1))
    return _appended(torch.cat(found), matrix).numpy(), float(matrix.rows().max())


def cushions(network: FeedForward, X: Any) -> dict[str, Any]:
    """Layer cushions, interlayer cushions and contraction of a fully connected network.

    mu_l = min_i |z_l|/(|W_l|_F |phi_{l-1}|);  mu_{l->} = min(1/sqrt m_l, min_{j>l} min_i |J z_l|/(|J|_F |z_l|)) with J
    the Jacobian of z_j with respect to z_l on the example's own activation pattern;  c = max_{l<L, i} |z_l|/|phi_l|.

    Args:
      network: the layers. X: inputs (n, d); the first few hundred are used.

    Returns: cushions (L,), interlayer (L,), contraction, largest_output.

    Raises:
      NotFeedForward: layers that are not fully connected.

    Source: Arora, Ge, Neyshabur & Zhang, Stronger generalization bounds for deep nets via a compression approach, ICML
      2018.
    """
    matrices = operators(network.layers)
    for layer in network.layers:
        if not layer.core.dense or any(step.kind not in ("relu", "reshape") for step in layer.activation):
            raise NotFeedForward(f"'{layer.name}' is not fully connected", why="the bound's theorem is for such layers")
    rows = X.detach().cpu().double()[:CUSHION_ROWS].flatten(1)
    dense = [matrix.dense() for matrix in matrices]
    n, L = len(rows), len(dense)
    phi = _appended(rows, matrices[0])
    z, slopes, mu, contraction, zero = [], [], [], 1.0, False
    for k, (matrix, W) in enumerate(zip(matrices, dense, strict=True)):
        z.append(phi @ W.T)
        zero |= bool((z[k].norm(dim=1) == 0).any())
        mu.append(float((z[k].norm(dim=1) / (W.norm() * phi.norm(dim=1))).min()))
        if k == L - 1:
            break
        own = z[k][:, : z[k].shape[1] - matrix.carries]
        active = matrix.layer.activate(own.reshape(n, *matrix.layer.outputs)).flatten(1)
        slope = torch.where(own == 0, torch.zeros_like(own), active / torch.where(own == 0, 1.0, own))
        if matrix.carries:
            slope = torch.cat([slope, torch.ones(n, 1, dtype=slope.dtype)], 1)
        slopes.append(slope)
        phi = slope * z[k]
        if not bool((phi.norm(dim=1) > 0).all()):
            raise NotFeedForward(f"an example switches all units of '{matrix.layer.name}' off")
        contraction = max(contraction, float((z[k].norm(dim=1) / phi.norm(dim=1)).max()))
    if zero:
        raise NotFeedForward("an example has pre-activations that are all zero")
    into = [min([1 / math.sqrt(z[k].shape[1]), *_through(k, z, slopes, dense)]) for k in range(L)]
    largest = float(z[-1].norm(dim=1).max())
    return {
        "cushions": np.array(mu),
        "interlayer": np.array(into),
        "contraction": contraction,
        "largest_output": largest,
    }


def _appended(x: Any, matrix: Operator) -> Any:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) if matrix.appended else x


def _through(k: int, z: list[Any], slopes: list[Any], dense: list[Any]) -> list[float]:
    """min_i |J z_k|/(|J|_F |z_k|) for every later layer, J = W_j D_{j-1} ... W_{k+1} D_k; a few examples at a time."""
    width = max(len(W) for W in dense) * z[k].shape[1]
    block = max(1, LARGEST_JACOBIAN // width)
    found = [math.inf] * (len(dense) - k - 1)
    for start in range(0, len(z[k]), block):
        part = slice(start, start + block)
        J = torch.diag_embed(slopes[k][part]) if found else None
        for place, j in enumerate(range(k + 1, len(dense))):
            J = dense[j] @ (J if place == 0 else slopes[j - 1][part][:, :, None] * J)
            moved = torch.einsum("nij,nj->ni", J, z[k][part]).norm(dim=1)
            ratio = moved / (J.flatten(1).norm(dim=1) * z[k][part].norm(dim=1))
            found[place] = min(found[place], float(ratio.min()))
    return found
