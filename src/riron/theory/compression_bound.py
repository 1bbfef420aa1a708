"""How far a compressed ReLU network can be from its original, computed from both: no constant is left open."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def output_error_bound(
    inputs: ArrayLike,
    weights: Sequence[np.ndarray],
    compressed: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    *,
    lipschitz: float = 1.0,
) -> float:
    """A limit on the root mean squared distance of the outputs of a network and a compressed one.

    With E_l the root mean squared distance of the pre-activations of layer l that were kept, W' the new weights and
    r_l = (E |W_l phi - W'_l phi_J|^2)^{1/2} measured on the ORIGINAL activations:  E_l <= r_l + |W'_l|_op E_{l-1}.

    Args:
      inputs: (n, d), which stand for the law.
      weights: of the original, (m_{l+1}, m_l) each, ReLU between them, without biases.
      compressed: of the compressed network. kept: nodes of each hidden layer that it has.
      lipschitz: constant of the activation function; 1 for ReLU.

    Source: unrolled as in Theorem 1 of Suzuki, Abe, Murata, Horiuchi, Ito, Wachi, Hirai, Yukishima & Nishimura,
      Spectral pruning, IJCAI-PRICAI 2020, with measured norms and residuals in the place of their bounds.
    """
    phi = np.asarray(inputs, dtype=np.float64)
    columns, error = np.arange(phi.shape[1]), 0.0
    for layer, (W, cut) in enumerate(zip(weights, compressed, strict=True)):
        z = phi @ np.asarray(W, dtype=np.float64).T
        rows = kept[layer] if layer < len(kept) else np.arange(len(W))
        cut = np.asarray(cut, dtype=np.float64)
        residual = np.sqrt(((z[:, rows] - phi[:, columns] @ cut.T) ** 2).sum(1).mean())
        error = residual + np.linalg.norm(cut, 2) * lipschitz * error
        phi, columns = np.maximum(z, 0.0), rows
    return float(error)
