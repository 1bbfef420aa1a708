"""Bounds whose sources give the order only: of a compressed network, and of one with a compressed companion."""

import math

from numpy.typing import ArrayLike

from ..checks import as_vector
from .generalisation import Bound
from .network_norms import NetworkNorms, checked_margin, margin_error


def arora_2018(
    net: NetworkNorms,
    g: float,
    *,
    cushions: ArrayLike,
    interlayer: ArrayLike,
    contraction: float,
    largest_output: float,
    delta: float = 0.05,
) -> Bound:
    """The order of a compressed network's error: q = c^2 L^2 max|f|^2/g^2 sum_l 1/(mu_l mu_{l->})^2 parameters.

    err(f') ~ err_g + sqrt(q/n); the source gives neither constants nor logarithms.

    Args:
      net, g: the network's numbers and the margin. cushions: (L,) mu_l. interlayer: (L,) mu_{l->}.
      contraction: c, largest |z|/|a(z)| over layers. largest_output: of |f(x_i)|.

    Source: Arora, Ge, Neyshabur & Zhang, Stronger generalization bounds for deep nets via a compression approach, ICML
      2018, theorem 4.1.
    """
    mu, into = as_vector(cushions, "cushions"), as_vector(interlayer, "interlayer")
    q = (contraction * len(net.layers) * largest_output / checked_margin(g)) ** 2 * float((1 / (mu * into) ** 2).sum())
    error = margin_error(net.margins, g)
    terms = {
        "margin": g,
        "margin_error": error,
        "effective_parameters": q,
        "contraction": contraction,
        "smallest_cushion": float(mu.min()),
        "smallest_interlayer": float(into.min()),
    }
    return Bound(
        "Arora et al. 2018", error + math.sqrt(q / net.n), of="a compressed network", constants=False,
        confidence=1 - delta, terms=terms,
        source="Arora, Ge, Neyshabur & Zhang, Stronger generalization bounds via a compression approach, ICML 2018",
    )  # fmt: skip


def suzuki_2020(
    *, train_error: float, parameters: float, distance: float, local: float, n: int, delta: float = 0.05
) -> Bound:
    """The order of this network's error from a compressed companion at distance r on the training inputs.

    main = sqrt(P log n/n) + sqrt(t/n), P = sum_l k_l k_{l+1} parameters of the companion; fast = Phi(r) +
    r sqrt(t/n) + (1 + t)/n, Phi the local complexity; t = log(3/delta). The constants are universal and not given.

    Args:
      train_error: of this network. parameters: of the companion. distance: r = sqrt 2 |f - f'|_n.
      local: Phi(r). n: training pairs.

    Source: Suzuki, Abe & Nishimura, Compression based bound for non-compressed network, ICLR 2020.
    """
    t = math.log(3 / delta)
    main = math.sqrt(parameters * math.log(n) / n) + math.sqrt(t / n)
    fast = local + distance * math.sqrt(t / n) + (1 + t) / n
    terms = {"main": main, "fast": fast, "parameters": parameters, "distance": distance, "local_complexity": local}
    return Bound(
        "Suzuki et al. 2020", train_error + main + fast, constants=False, confidence=1 - delta, terms=terms,
        source="Suzuki, Abe & Nishimura, Compression based bound for non-compressed network, ICLR 2020",
    )  # fmt: skip
