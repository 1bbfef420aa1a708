"""A floor under the training objective of any one-hidden-layer ReLU network with weight decay, whatever its width.

For f(x) = sum_j a_j relu(w_j . x + b_j) + b_0 and F = (1/n) sum loss(f_i, y_i) + (c/2)(|a|^2 + |W|^2 [+ |b|^2 + b_0^2])
the inequalities (c/2)(a^2 + |w|^2) >= c |a| |w| and Fenchel's give, for any width and any g where loss* is finite,

    F >= D(s g) = -(1/n) sum loss*(s g_i) - (s mean g)^2 / (2 c),   0 <= s <= c / Psi(g),

Psi(g) the largest |(1/n) sum_i g_i relu(v . x_i)| of a unit neuron v. We take g = loss'(f, y) of the network at hand:
where Psi(g) > c, a neuron is missing, and the maximising v is that neuron.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from .base import Guarantee
from .directions import Directions, search, upper_bound
from .penalised import Setting, read_setting

MISSING = 1e-3  # relative excess of Psi over c from which a neuron is said to be missing
LOOSE = 0.01  # relative distance of floor and objective from which the floor is called loose
NOTHING = 0.05  # a floor below this share of the objective says nothing
RETRIES = 2  # searches with twice the starts where Psi comes out too small


@dataclass(frozen=True)
class LossFloor(Guarantee):
    """No width gets below `floor`, if the search found the best missing neuron; below `proved_floor` in any case.

    Attributes:
      objective: F of the network, in the units of the loss: squared is (f - y)^2 / 2.
      floor: the floor with the Psi that was found; nan where status is "too-small-decay".
      proved_floor: with an upper bound of Psi; nan there too.
      missing_neuron: (d + 1,) weights and bias (d without biases) of the neuron that would lower F most, of norm 1;
        None if no neuron is missing.
      psi_over_c: Psi / c; 1 at an optimum, above 1 where a neuron is missing.
      start_share: share of independent random starts of the search that ended within 1 % of the best.
      status: "proved" (floor and proved floor agree), "estimated", "loose" (the network is far above the floor: neurons
        are missing or it was not trained to the end; see `improve`) or "too-small-decay" (no statement).
    """

    assumptions = (
        "one hidden ReLU layer and the objective as stated",
        "for `floor`, not for `proved_floor`: the search found the largest Psi",
    )

    objective: float
    floor: float
    proved_floor: float
    missing_neuron: np.ndarray | None
    psi_over_c: float
    start_share: float
    status: str

    @property
    def relative(self) -> float:
        """How far the objective is above the floor, as a share of the objective."""
        return (self.objective - self.floor) / self.objective

    def __str__(self) -> str:
        if self.status == "too-small-decay":
            why = f"Psi/c = {self.psi_over_c:.3g}"
            return f"objective {self.objective:.5g}: the weight decay is too small for a statement ({why})"
        how = {"proved": "proved", "loose": "estimated, loose"}.get(self.status, "estimated")
        text = f"objective {self.objective:.5g}; no width gets below {self.floor:.5g} ({how})"
        text += f", {self.proved_floor:.5g} (proved)"
        if self.missing_neuron is not None:
            text += f"; a neuron is missing (Psi/c = {self.psi_over_c:.4g})"
        return text + f"; {self.start_share:.0%} of the random starts found the best"


def loss_floor(
    net: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    weight_decay: Any = None,
    bias_decayed: bool | None = None,
    loss: str | None = None,
    starts: int = 600,
    steps: int = 300,
    seed: int = 0,
) -> LossFloor:
    """A floor under the objective of every network of this kind on these data, and how far this one is above it.

    Args:
      net: `nn.Sequential(Linear, ReLU, Linear)`, a fitted MLPRegressor or MLPClassifier of two classes, a `ReLUNetwork`
        or arrays (W (m, d), b (m,) or None, a (m,), b0 or None). PyTorch need not be installed.
      X: (n, d) features as the network saw them. y: (n,) targets, or labels of two classes.
      weight_decay: c in F = (1/n) sum loss + (c/2) |parameters|^2: what PyTorch's SGD and Adam call weight_decay, with
        losses that are averaged (MSELoss is twice our squared loss: give half the weight decay). Or the optimiser
        itself. scikit-learn's networks know it: alpha / n, or alpha / batch size for adam and sgd.
      bias_decayed: whether the biases are in the penalty: True for PyTorch, False for scikit-learn.
      loss: "squared" or "logistic"; unless given, scikit-learn's, else logistic for two labels and squared otherwise.
      starts, steps: of the search for Psi. seed: of its random starts.

    Returns: a LossFloor.

    Raises:
      InputError: AdamW (no objective is minimised), other activations, deeper networks, several outputs, and why.

    Source: derived in docs/certificates.md; the convex view of weight decay: Pilanci & Ergen, ICML 2020
      (pilanci2020convex), and Bach, JMLR 2017 (bach2017breaking).
    """
    setting = read_setting(net, X, y, weight_decay=weight_decay, bias_decayed=bias_decayed, loss=loss)
    return floor_and_directions(setting, starts, steps, seed)[0]


def floor_and_directions(setting: Setting, starts: int, steps: int, seed: int) -> tuple[LossFloor, Directions]:
    """The floor, with the ends of the search behind it."""
    g, F = setting.dual_vector, setting.objective
    key = jax.random.key(seed)
    told = (setting.X, g, setting.bias, setting.own)
    for k in range(RETRIES + 1):
        found = search(*told, jax.random.fold_in(key, k), starts=2**k * starts, steps=2**k * steps)
        psi = float(found.values[0])
        floor = setting.floor(g, psi)
        if floor <= F and psi > (1 - MISSING) * setting.c:
            break
    # A floor above a realised objective would be a Psi that the search missed: the objective is then the better floor.
    floor = min(floor, F)
    bound = max(upper_bound(setting.X, g, setting.bias), psi)
    proved = min(setting.floor(g, bound), floor)
    status = "loose" if F - floor > LOOSE * F else "estimated"
    if floor - proved <= 1e-3 * F:
        status = "proved"
    if floor <= NOTHING * F:
        status, floor, proved = "too-small-decay", float("nan"), float("nan")
    ratio = psi / setting.c
    missing = found.V[0] if ratio > 1 + MISSING else None
    return LossFloor(F, floor, proved, missing, ratio, found.start_share, status), found
