"""Gaussian laws of the weights around a prior: in closed form, optimised, and the zero-one loss of their networks."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from ...guarantees.pac_bayes import (
    counted_price,
    gaussian_kl,
    gibbs_monte_carlo_limit,
    listed_price,
    pac_bayes_kl_limit,
)
from .pairs import Pairs
from .random_network import RandomNetwork, scales

SCALES = tuple(2.0 ** (-j / 2) for j in range(24))  # of the noise, in units of a layer's weights; fixed beforehand
WAY = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)  # from the prior's centre to the network's weights, or to the optimum
REPEATS = 10  # fresh networks for each example in the estimate of the training error
LOOK, NETWORKS = 1000, 4  # examples on which candidates are compared, and whole networks for them
MONTE_CARLO = 0.1  # the share of delta that this estimate may use
KL_WEIGHT = 2.0  # of KL/n beside the cross-entropy; the bound holds whatever it is, and 1 to 4 give nearly the same
LARGEST, PER_E = 100.0, 10  # prior variances 100 e^{-j/10}, j = 1, 2, ..., in units of a layer's weights


@dataclass(frozen=True)
class Gibbs:
    """A Gaussian law of the weights and what it costs.

    Attributes:
      mean, sd: of each tensor. kl: KL to the prior, the price of the choice of the prior included.
      way: how far its mean is from the prior's centre, 1 = where the network is.
    """

    mean: dict[str, Any]
    sd: dict[str, Any]
    kl: float
    way: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """Mean zero-one loss of fresh networks, one for each of `draws` examples."""

    mean: float
    draws: int

    def limit(self, kl: float, n: int, delta: float) -> float:
        """Of the random network's error."""
        training = gibbs_monte_carlo_limit(self.mean, self.draws, delta * MONTE_CARLO)
        return pac_bayes_kl_limit(training, kl, n, delta * (1 - MONTE_CARLO))


def closed_form(
    around: RandomNetwork, prior: dict[str, Any], pairs: Pairs, delta: float, generator: Any
) -> tuple[Gibbs, Estimate]:
    """Noise of one of the SCALES for the network and for the prior alike: KL = |w - w_0|^2/(2 s^2).

    The mean may lie anywhere between the prior's centre and the network; only the scale has to be paid for.
    """
    mean, unit = around.centre(), scales(prior)
    distance = sum(gaussian_kl(mean[k].numpy(), unit[k], prior[k].numpy(), unit[k]) for k in mean)

    def laws() -> Iterable[Gibbs]:
        for scale in SCALES:
            sd = {k: torch.full_like(v, unit[k] * scale) for k, v in mean.items()}
            for way in WAY:
                centre = {k: torch.lerp(prior[k], mean[k], way) for k in mean}
                yield Gibbs(centre, sd, distance * (way / scale) ** 2 + listed_price(len(SCALES)), way)

    return best_law(around, laws(), pairs, delta, generator)


def optimised(
    around: RandomNetwork, prior: dict[str, Any], pairs: Pairs, rows: Pairs, steps: int, delta: float, generator: Any,
    *, trained: bool, say: Callable[[str], None],
) -> tuple[Gibbs, Estimate]:  # fmt: skip
    """The optimised law, or one on the way from the prior to it. `rows` teach it, `pairs` are what the bound is on."""
    unit = scales(prior)
    end, prior_sd, price = optimise(around, prior, unit, rows, steps, generator, n=len(pairs), trained=trained, say=say)

    def laws() -> Iterable[Gibbs]:
        for way in WAY:
            mean = {k: torch.lerp(prior[k], end.mean[k], way) for k in prior}
            sd = {k: end.sd[k] ** way * (unit[k] * prior_sd) ** (1 - way) for k in prior}
            kl = sum(gaussian_kl(mean[k].numpy(), sd[k].numpy(), prior[k].numpy(), unit[k] * prior_sd) for k in prior)
            yield Gibbs(mean, sd, kl + price, way)

    return best_law(around, laws(), pairs, delta, generator)


def best_law(
    around: RandomNetwork, laws: Iterable[Gibbs], pairs: Pairs, delta: float, generator: Any
) -> tuple[Gibbs, Estimate]:
    """The law with the least limit, and its training error from draws that the choice has not seen."""
    best, least = None, math.inf
    for gibbs in laws:
        without_error = Estimate(0.0, len(pairs)).limit(gibbs.kl, len(pairs), delta)
        if best is not None and without_error >= least:
            continue
        value = _look(around, gibbs, pairs, generator).limit(gibbs.kl, len(pairs), delta)
        if best is None or value < least:
            best, least = gibbs, value
    assert best is not None
    return best, training_error(around, best, pairs, generator)


def optimise(
    around: RandomNetwork, prior: dict[str, Any], unit: dict[str, float], rows: Pairs, steps: int, generator: Any, *,
    n: int, batch: int = 256, rate: float = 0.03, trained: bool = False, say: Callable[[str], None] = lambda text: None,
) -> tuple[Gibbs, float, float]:  # fmt: skip
    """Adam on cross-entropy + KL_WEIGHT KL/n over means, standard deviations and the variance of the prior.

    It starts at the prior; unless that is `trained`, KL is phased in over half of the steps. All in units of a layer's
    weights; the prior variance is rounded to 100 e^{-j/10} at the end and j is paid for.

    Returns: the law, the prior's standard deviation in the same units, the price of j.

    Source: Dziugaite & Roy, Computing nonvacuous generalization bounds for deep (stochastic) neural networks with many
      more parameters than training data, UAI 2017; with KL/n in the place of its root.
    """
    names = list(prior)
    mean = {k: prior[k].detach().clone().requires_grad_() for k in names}
    # around a trained prior the law starts with KL 0; else the weights have to grow out of the noise first
    start, rate, warm = (-3.0, rate / 10, 0.0) if trained else (-2.0, rate, 0.5)
    rho = {k: torch.full_like(prior[k], start).requires_grad_() for k in names}
    log_variance = torch.tensor(2 * start, dtype=prior[names[0]].dtype, requires_grad=True)
    groups = [{"params": [mean[k]], "lr": rate * unit[k], "unit": rate * unit[k]} for k in names]
    groups.append({"params": [*rho.values(), log_variance], "lr": rate, "unit": rate * 2})
    optimiser = torch.optim.Adam(groups)
    for step in range(steps):
        if step % 20 == 0:
            say(f"PAC-Bayes: step {step} of {steps}")
        for group in optimiser.param_groups:
            group["lr"] = group["unit"] * max(0.5 * (1 + math.cos(math.pi * step / steps)), 0.01)
        index = torch.randint(len(rows), (min(batch, len(rows)),), generator=generator)
        sd = {k: unit[k] * rho[k].exp() for k in names}
        z = around.training(rows.X[index], mean, sd, generator)
        kl = sum(
            0.5
            * (
                ((2 * rho[k]).exp() + ((mean[k] - prior[k]) / unit[k]) ** 2) / log_variance.exp() - 1
                + log_variance - 2 * rho[k]
            ).sum()
            for k in names
        )  # fmt: skip
        weight = KL_WEIGHT * min(1.0, step / (warm * steps)) if warm else KL_WEIGHT
        loss = torch.nn.functional.cross_entropy(z, rows.y[index]) + weight * kl / n
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    j = max(1, round(PER_E * (math.log(LARGEST) - float(log_variance.detach()))))
    prior_sd = math.sqrt(LARGEST * math.exp(-j / PER_E))
    means = {k: v.detach() for k, v in mean.items()}
    sds = {k: unit[k] * rho[k].detach().exp() for k in names}
    kl = sum(gaussian_kl(means[k].numpy(), sds[k].numpy(), prior[k].numpy(), unit[k] * prior_sd) for k in names)
    return Gibbs(means, sds, kl + counted_price(j)), prior_sd, counted_price(j)


def _look(around: RandomNetwork, gibbs: Gibbs, pairs: Pairs, generator: Any) -> Estimate:
    """A quick estimate for a choice: where a fresh network for each example is dear, a few networks for all."""
    index = torch.randint(len(pairs), (LOOK,), generator=generator)
    wrong = 0
    with torch.no_grad():
        for part in index.split(LOOK if around.local else LOOK // NETWORKS + 1):
            draw = around.fresh if around.local else around.shared
            wrong += int((draw(pairs.X[part], gibbs.mean, gibbs.sd, generator).argmax(1) != pairs.y[part]).sum())
    return Estimate(wrong / LOOK, LOOK)


def training_error(around: RandomNetwork, gibbs: Gibbs, pairs: Pairs, generator: Any) -> Estimate:
    """Zero-one losses of independent networks, REPEATS for each example where that is affordable.

    Fewer: for examples drawn at random, so that the mean stays err_S(Q).
    """
    wanted = REPEATS * len(pairs)
    draws = around.affordable(wanted)
    if draws == wanted:
        index = torch.arange(len(pairs)).repeat(REPEATS)
    else:
        index = torch.randint(len(pairs), (draws,), generator=generator)
    wrong = 0
    with torch.no_grad():
        for part in index.split(4096):
            z = around.fresh(pairs.X[part], gibbs.mean, gibbs.sd, generator)
            wrong += int((z.argmax(1) != pairs.y[part]).sum())
    return Estimate(wrong / draws, draws)
