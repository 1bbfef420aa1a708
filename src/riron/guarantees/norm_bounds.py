"""Generalisation bounds from parameter counts, norms and margins of one trained network: numbers in, numbers out.

Setting: f(x) = W_L a(W_{L-1} ... a(W_1 x)), a 1-Lipschitz and positively homogeneous, K outputs, n training pairs. The
margin of a pair is f_y - max_{k != y} f_k, and err_g the fraction of pairs with margin at most g. The ramp loss is
(sqrt 2/g)-Lipschitz in the outputs and Maurer's vector contraction (2016) gives, with eps = 3 sqrt(log(2/delta)/2n),

    err <= err_g + 2 R + eps,    R <= (2/g) sum_k R(scalar class of output k).

Networks are homogeneous in their last layer: f/g at margin 1 is f at margin g, so that the margin needs no grid of its
own. What the class is defined by is rounded up to a grid and delta shared out over the grid; both are in the value.
"""

import math

import numpy as np

from ..errors import InputError
from .generalisation import Bound
from .network_norms import NetworkNorms, checked_margin, margin_error, rounded

INDEPENDENT = "the examples are independent draws of one law"
BOUNDED = (INDEPENDENT, "every input has at most the largest norm in the sample")


def parameter_count(net: NetworkNorms, *, delta: float = 0.05) -> Bound:
    """From the number of sign patterns of a piecewise polynomial network on n points.

    log growth <= sum_i min(n k_i log 2, log 2 + P_i log(2 e n k_i d_i/P_i)), P_i parameters up to layer i, k_i
    thresholds, d_i degree; never above n log 2.   err <= err_0 + sqrt(2 log growth/n) + sqrt(log(1/delta)/2n).

    Source: Bartlett, Harvey, Liaw & Mehrabian, JMLR 2019 (binary; the multiclass count is ours).
    """
    n = net.n
    count = np.cumsum([layer.parameters for layer in net.layers])
    degree = np.cumsum([layer.degree for layer in net.layers])
    places = np.array([layer.thresholds for layer in net.layers])
    growth = 0.0
    for k, P, d in zip(places, count, degree, strict=True):
        if k:
            pieces = math.log(2) + P * math.log(max(2 * math.e * n * k * d / P, 2))
            growth += float(min(n * k * math.log(2), pieces))
    R, W, L = float((degree * places).sum()), float(count[-1]), len(net.layers)
    vc = L + float(count.sum()) * math.log2(4 * math.e * R * math.log2(2 * math.e * R))
    tail = math.sqrt(math.log(1 / delta) / (2 * n))
    value = net.error + math.sqrt(2 * min(growth, n * math.log(2)) / n) + tail
    terms = {
        "log_growth": growth,
        "vc_dimension": vc,
        "parameters": W,
        "uncapped": net.error + math.sqrt(2 * growth / n) + tail,
    }
    return Bound(
        "parameter count", value, confidence=1 - delta, terms=terms,
        source="Bartlett, Harvey, Liaw & Mehrabian, Nearly-tight VC-dimension bounds, JMLR 2019",
    )  # fmt: skip


def neyshabur_2015(net: NetworkNorms, g: float, *, delta: float = 0.05) -> Bound:
    """R(scalar) <= 2^{L-1} |w_k| prod_{l<L} |W_l|_F |X|/n.

    Source: Neyshabur, Tomioka & Srebro, Norm-based capacity control, COLT 2015.
    """
    factor = 2.0 ** (len(net.layers) - 1)
    source = "Neyshabur, Tomioka & Srebro, Norm-based capacity control in neural networks, COLT 2015"
    return _product_of_frobenius("Neyshabur et al. 2015", factor, net, g, delta, source)


def golowich_2018(net: NetworkNorms, g: float, *, delta: float = 0.05) -> Bound:
    """R(scalar) <= (sqrt(2 L log 2) + 1) |w_k| prod_{l<L} |W_l|_F |X|/n.

    Source: Golowich, Rakhlin & Shamir, Size-independent sample complexity of neural networks, COLT 2018, theorem 1.
    """
    factor = math.sqrt(2 * len(net.layers) * math.log(2)) + 1
    source = "Golowich, Rakhlin & Shamir, Size-independent sample complexity of neural networks, COLT 2018"
    return _product_of_frobenius("Golowich et al. 2018", factor, net, g, delta, source)


def _product_of_frobenius(name: str, factor: float, net: NetworkNorms, g: float, delta: float, source: str) -> Bound:
    # by homogeneity only the product of norms matters; the largest row stands for all K, which costs one grid, not K
    product = math.prod(layer.frobenius for layer in net.layers[:-1]) * float(net.rows.max()) / checked_margin(g)
    capacity, price = rounded(product)
    rademacher = 2 * len(net.rows) * factor * capacity * float(np.linalg.norm(net.inputs)) / net.n
    return _from_rademacher(name, net, g, rademacher, price, delta, {"product_of_norms": product * g}, source)


def bartlett_2017(net: NetworkNorms, g: float, *, delta: float = 0.05, from_init: bool = False) -> Bound:
    """By covering numbers: A = prod_l s_l (sum_l (b_l/s_l)^{2/3})^{3/2}, s_l spectral norms, b_l group norms.

    log N(e) <= q^2/e^2,  q = |X| sqrt(2 log 2h^2) A/g, h the largest size of a layer; by Dudley's integral with the
    best cut-off  R <= (12 q/n)(1 + log_+(n/3q)).   `from_init`: b_l of the differences from matrices fixed before.

    Source: Bartlett, Foster & Telgarsky, Spectrally-normalized margin bounds for neural networks, NeurIPS 2017.
    """
    s = np.array([layer.spectral for layer in net.layers])
    price, scale = 0.0, 1 / checked_margin(g)
    if from_init:
        changes = [layer.change for layer in net.layers]
        if any(change is None for change in changes):
            raise InputError("the norms hold no differences from the initial weights", do="pass init=")
        b = np.array(changes, dtype=np.float64)
        # with fixed matrices no layer can be rescaled: the margin, each spectral and each group norm have a grid
        scale, price = rounded(scale)
        s, price = _all_rounded(s, price)
        b, price = _all_rounded(b, price)
        product, ratios = float(s.prod()) * scale, b / s
    else:
        product, price = rounded(float(s.prod()) * scale)
        ratios, price = _all_rounded(np.array([layer.group for layer in net.layers]) / s, price)
    A = product * float((ratios ** (2 / 3)).sum()) ** 1.5
    h = max(max(layer.inputs, layer.units) for layer in net.layers)
    q = float(np.linalg.norm(net.inputs)) * math.sqrt(2 * math.log(2 * h**2)) * A
    rademacher = 12 * q / net.n * (1 + math.log(max(net.n / (3 * q), 1))) if q else 0.0
    terms = {"spectral_complexity": A / scale, "product_of_spectral_norms": float(s.prod()), "largest_layer": h}
    return _from_rademacher(
        f"Bartlett et al. 2017, {'from the initial weights' if from_init else 'from zero'}",
        net, g, rademacher, price, delta, terms,
        "Bartlett, Foster & Telgarsky, Spectrally-normalized margin bounds for neural networks, NeurIPS 2017",
        ("the initial weights do not depend on the examples",) if from_init else (),
    )  # fmt: skip


def _all_rounded(values: np.ndarray, price: float) -> tuple[np.ndarray, float]:
    pairs = [rounded(float(value)) for value in values]
    return np.array([value for value, _ in pairs]), price + sum(cost for _, cost in pairs)


def _from_rademacher(
    name: str, net: NetworkNorms, g: float, rademacher: float, price: float, delta: float, terms: dict, source: str,
    also: tuple[str, ...] = (),
) -> Bound:  # fmt: skip
    """err <= err_g + 2 R + 3 sqrt((log(2/delta) + price)/2n)."""
    tail = 3 * math.sqrt((math.log(2 / delta) + price) / (2 * net.n))
    error = margin_error(net.margins, g)
    terms = {"margin": g, "margin_error": error, "rademacher": rademacher, "deviation": tail, **terms}
    value, assumed = error + 2 * rademacher + tail, (INDEPENDENT, *also)
    return Bound(name, value, confidence=1 - delta, terms=terms, source=source, assumptions=assumed)


def neyshabur_2018(net: NetworkNorms, g: float, *, delta: float = 0.05) -> Bound:
    """PAC-Bayes with Gaussian noise on all weights, its size from a grid over the spectral norms.

    KL <= 882 L^2 B^2 h log(4 L h) prod_l s_l^2 sum_l |W_l|_F^2/s_l^2 / g^2,  B the largest input norm;
    err <= err_g + 4 sqrt((KL + log(6 n L n^{1/2L}/delta))/(n - 1)).

    Source: Neyshabur, Bhojanapalli & Srebro, A PAC-Bayesian approach to spectrally-normalized margin bounds, ICLR 2018.
    """
    if net.n < 2:
        raise InputError("one training pair is too few", do="pass at least 2")
    L = len(net.layers)
    s = np.array([layer.spectral for layer in net.layers])
    F = np.array([layer.frobenius for layer in net.layers])
    h = max(max(layer.inputs, layer.units) for layer in net.layers)
    B = float(net.inputs.max())
    spread = float((F**2 / s**2).sum())
    kl = 882 * (L * B * float(s.prod()) / checked_margin(g)) ** 2 * h * math.log(4 * L * h) * spread
    grid = math.log(6 * net.n * L / delta) + math.log(net.n) / (2 * L)
    error = margin_error(net.margins, g)
    value = error + 4 * math.sqrt((kl + grid) / (net.n - 1))
    terms = {"margin": g, "margin_error": error, "kl": kl, "largest_input": B, "stable_rank_sum": spread}
    return Bound(
        "Neyshabur et al. 2018", value, confidence=1 - delta, terms=terms, assumptions=BOUNDED,
        source="Neyshabur, Bhojanapalli & Srebro, A PAC-Bayesian approach to spectrally-normalized margin bounds, "
        "ICLR 2018",
    )  # fmt: skip
