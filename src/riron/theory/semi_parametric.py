"""Ridge-logistic regression at a larger sample, read off one sample: the fixed point with the score law measured.

In the proportional limit a convex ridge regression is described by few numbers (an effective ridge kappa, the strength
alpha of the signal it finds, the noise beta2 it adds, the width V of its proximal map) and by the law of the held-out
score. Here that law is not assumed but measured: the leave-one-out scores of the two classes, row by row, with each
row's own leverage; and the degrees of freedom are those of the ridge path of the same rows. The numbers then follow to
another sample size n at the same kappa by solving the fixed point; at the size at hand they give the measurement back.

Source: the fixed point for classification: Loureiro, Gerbelot, Cui, Goldt, Krzakala, Mezard & Zdeborova, Learning
curves of generic features maps for realistic datasets with a teacher-student model, NeurIPS 2021
(loureiro2021). That the leave-one-out score obeys the proximal relation row by row: El Karoui, Bean, Bickel, Lim & Yu,
On robust regression with high-dimensional predictors, PNAS 2013 (elkaroui2013).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import root
from scipy.special import expit, ndtr

from .alo import Fit

TOLERANCE = 1e-6
DF2, NOISE = 0.3, 0.9  # largest df2/n0, and share of noise in the spread of scores, at which a measurement is believed
PROX_STEPS = 60
SMOOTHING = 0.15  # width of the kernel that counts errors, in standard deviations of a class's scores


class Measured(NamedTuple):
    """What one penalty's leave-one-out says, in the terms of the fixed point (two classes, y = -1 or 1).

    Attributes:
      n: number of rows.
      y, scores: (n,) labels and leave-one-out scores.
      levers: (n,) V_i / V.
      V, kappa, df1, df2, alpha, beta2, bias, noise: of the fixed point; noise is the part of the scores' variance that
        is the sample's.
      mean, residual, variance: (n,) mean of the row's class, its distance from it, and the class's variance.
    """

    n: int
    y: np.ndarray
    scores: np.ndarray
    levers: np.ndarray
    V: float
    kappa: float
    df1: float
    df2: float
    alpha: float
    beta2: float
    bias: float
    noise: float
    mean: np.ndarray
    residual: np.ndarray
    variance: np.ndarray


def measure(fit: Fit, y: np.ndarray, intercept: float, kappas: np.ndarray, df2s: np.ndarray) -> Measured | None:
    """Read the fixed point at the sample at hand off one fit of `riron.theory.alo`; None where it is not believed.

    Args:
      fit: of (n, 1) scores with logistic loss, unweighted rows.
      y: (n,) -1 or 1.
      intercept: of the centred columns.
      kappas, df2s: (L,) effective ridges and second degrees of freedom of `riron.theory.learning_curve.ridge_path`.
    """
    n, omega, u = len(y), fit.left_out[:, 0], fit.scores[:, 0]
    p = expit(-y * u)
    curvature, slope = p * (1 - p), -y * p
    V = _width(fit, omega, u, curvature, slope)
    levers = V / V.mean()
    f, g = _prox(omega, y, V)
    Vh = np.mean(levers * g)
    kappa = fit.ridge / Vh
    order = np.argsort(kappas)
    df2 = float(np.interp(np.log(kappa), np.log(kappas[order]), df2s[order]))
    beta2 = np.mean(levers * f**2) / Vh**2
    noise = beta2 * df2 / n
    mean, variance = np.empty(n), np.empty(n)
    for c in (-1, 1):
        of = y == c
        mean[of], variance[of] = omega[of].mean(), omega[of].var()
    inside = kappas.min() <= kappa <= kappas.max()
    if not inside or df2 / n > DF2 or noise > NOISE * variance.min():
        return None
    alpha = np.mean(np.where(y > 0, f, 0.0)) / Vh
    df1 = n * V.mean() * Vh
    return Measured(
        n, y, omega, levers, V.mean(), kappa, df1, df2, alpha, beta2, intercept, noise, mean, omega - mean, variance
    )


def carry(at: Measured, sizes: np.ndarray) -> list[tuple[np.ndarray, float] | None]:
    """Held-out scores (one for each row at hand) at the same kappa, and the penalty there, for each number of rows.

    The class means follow alpha; the spread within a class follows alpha where it is signal, and beta2/n where it is
    the sample's noise; b keeps the mean slope zero; V solves V mean(levers g) = df1/n. Four equations, solved by
    Powell's hybrid method, each size started from the one before. None where they are not solved.

    Args:
      at: from `measure`.
      sizes: increasing numbers of rows, >= n0.
    """
    found: list[tuple[np.ndarray, float] | None] = []
    state, last = np.array([np.log(at.alpha), np.log(at.beta2), at.bias, np.log(at.V)]), float(at.n)
    for n in np.asarray(sizes, dtype=float):
        start = state - np.array([0, 0, 0, np.log(n / last)])
        with np.errstate(all="ignore"):
            solved = root(lambda x, n=n: _equations(at, n, x)[0], start, method="hybr", tol=1e-9)
            residual, omega, Vh = _equations(at, n, solved.x)
        if not np.max(np.abs(residual)) < TOLERANCE:
            found.append(None)
            continue
        found.append((omega, at.kappa * Vh))
        state, last = solved.x, n
    return found


def _equations(at: Measured, n: float, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """What is not yet equal in the fixed point at n rows, the scores, and Vh, for (log alpha, log beta2, b, log V)."""
    log_alpha, log_beta2, b, log_v = np.clip(state, -40, 40)
    stretch, V = np.exp(log_alpha) / at.alpha, np.exp(log_v)
    noise = np.exp(log_beta2) / at.beta2 * at.noise * at.n / n
    spread = np.sqrt((stretch**2 * (at.variance - at.noise) + noise) / at.variance)
    omega = b + stretch * (at.mean - at.bias) + spread * at.residual
    f, g = _prox(omega, at.y, V * at.levers)
    Vh = float(np.mean(at.levers * g))
    residual = np.array(
        [
            np.log(np.mean(np.where(at.y > 0, f, 0.0)) / Vh) - log_alpha,
            np.log(np.mean(at.levers * f**2) / Vh**2) - log_beta2,
            np.mean(f) / np.mean(g),
            np.log(V * Vh * n / at.df1),
        ]
    )
    return residual, omega, Vh


def smooth_error(scores: np.ndarray, y: np.ndarray, share: np.ndarray | None = None, width: float = SMOOTHING) -> float:
    """Share of wrong signs, counted by a normal kernel on each class's scores.

    The kernel's width is a share of the class's standard deviation; the scores are drawn towards their mean first, so
    that the spread is kept (without that, small errors would double).

    Args:
      scores: (n,) held-out scores.
      y: (n,) -1 or 1.
      share: (n,) weights of sum one, default 1/n each.
      width: of the kernel, in standard deviations.
    """
    share = np.full(len(y), 1 / len(y)) if share is None else share
    wrong = 0.0
    for c in (-1, 1):
        s, w = scores[y == c], share[y == c]
        mean = w @ s / w.sum()
        sd = np.sqrt(w @ (s - mean) ** 2 / w.sum())
        squeeze = 1 / np.sqrt(1 + width**2)
        kernel = max(width * sd * squeeze, 1e-12)
        wrong += w @ ndtr(-c * (mean + squeeze * (s - mean)) / kernel)
    return float(wrong)


def _width(fit: Fit, omega, u, curvature, slope) -> np.ndarray:
    """V_i of omega_i = u_i + loss'_i V_i; of exact refits too, where the slope tells it."""
    h = fit.lever / len(u)
    approximate = h / np.maximum(1 - h * curvature, 1e-10)
    with np.errstate(all="ignore"):
        told = (omega - u) / slope
    return np.where(fit.refitted & np.isfinite(told) & (told > 0), told, approximate)


def _prox(omega: np.ndarray, y: np.ndarray, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f = -loss'(u) and g = loss''(u) / (1 + V loss''(u)) at the proximal point u of the logistic loss.

    Newton in zeta = log(y u - y omega) on zeta + softplus(y omega + e^zeta) = log V: convex, from the right, monotone.
    """
    t, log_v = y * omega, np.log(V)
    zeta = np.minimum(log_v - np.logaddexp(0, t), np.log(np.maximum(1.0, log_v - t)))
    for _ in range(PROX_STEPS):
        e = np.exp(zeta)
        step = (zeta + np.logaddexp(0, t + e) - log_v) / (1 + e * expit(t + e))
        zeta = zeta - step
        if np.max(np.abs(step)) < 1e-11:
            break
    p = expit(-(t + np.exp(zeta)))
    curvature = p * (1 - p)
    return y * p, curvature / (1 + V * curvature)
