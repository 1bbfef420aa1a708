"""Short runs that measure what a mean-field network's error is made of, and a test of that very model.

A step size near the edge of stability in function space changes the variance many times over without any NaN; so the
model is tested (its chi-square, and the variance against that at half the step size) and the step halved until it fits.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from ...dynamics.mean_field_langevin import stable_step_size
from ...lab.progress import Show
from ...problems.mean_field import MeanFieldProblem
from .trial import Trial, tried

WIDTHS, WIDE = (32, 64, 128), 512
SEEDS = 16
SHARE_OF_EDGE = 0.25
HALVINGS = 4
SAME = 0.2  # largest relative change of N x variance from half the step size
SETTLED = 1.1  # the spread between runs over its settled value, at most
DOUBT = 1e-3  # p-value of chi-square below which the model is refused


@dataclass(frozen=True)
class Calibration:
    """Variance = c_width / N + c_step eta / N + c_batch eta (n - B) / (B (n - 1)), bias = c_bias eta^2.

    Attributes:
      c_width, c_step, c_batch, c_bias: the constants; stderr: their standard errors, by name.
      chi_square, degrees, p_value: of the fit.
      step_size: eta_0, the largest that was run; plans stay at or below it.
      rate: at which the mean predictions settle, 1 / time; settled_at: time and distance from where it holds.
      smallest_batch: that was run; plans stay at or above it.
      fits: whether the model passed its tests.
      runs: a row for each setting: width, step_size, batch, variance, stderr, fitted.
      reference: (n,) predictions of the optimum, extrapolated to step size 0 from the widest runs.
      reference_variance: its own error, in the units of the variance.
    """

    c_width: float
    c_step: float
    c_batch: float
    c_bias: float
    stderr: dict[str, float]
    chi_square: float
    degrees: int
    p_value: float
    step_size: float
    rate: float
    settled_at: tuple[float, float]
    smallest_batch: int
    n: int
    fits: bool
    runs: list[dict[str, float]]
    reference: np.ndarray
    reference_variance: float

    def variance(self, width: float, step_size: float, batch: float) -> float:
        """Of the outputs of a setting, weighted by the losses' curvatures, halved."""
        noise = (self.n - batch) / (batch * max(self.n - 1, 1))
        return (self.c_width + self.c_step * step_size) / width + self.c_batch * step_size * noise

    def settling_time(self, distance: float) -> float:
        """Time after which the mean predictions are within `distance` of where they settle."""
        begin, left = self.settled_at
        return begin + max(np.log(left / distance), 0.0) / self.rate

    def as_dict(self) -> dict[str, Any]:
        """Plain values; the predictions are left out."""
        found = asdict(self)
        del found["reference"]
        return found


def calibrate(
    problem: MeanFieldProblem, *, seed: int = 0, time: float | None = None, progress: Show = None
) -> Calibration:
    """Run small networks at three widths, step sizes and batches, and two wide ones; fit, test, halve the step.

    Args:
      problem: a MeanFieldProblem.
      seed: the root of the keys.
      time: length of a run; six relaxation times 1 / (2 lam1) of the regulariser unless given.
      progress: True for a bar for each setting.
    """
    n = problem.X.shape[0]
    length = 6 / (2 * float(problem.lam1)) if time is None else time
    eta = min(SHARE_OF_EDGE * stable_step_size(problem), length / 200)
    batches = sorted({max(n // 16, 1), max(n // 8, 1)})
    found: Calibration | None = None
    for _ in range(HALVINGS + 1):
        run = lambda width, step, batch=None: tried(
            problem, width=width, step_size=step, batch=batch, time=length, seeds=SEEDS, seed=seed, progress=progress
        )
        small = [run(width, eta) for width in WIDTHS] + [run(WIDTHS[1], eta / 2), run(WIDTHS[1], eta / 4)]
        noisy = [run(WIDTHS[1], eta, batch) for batch in batches] + [run(WIDTHS[1], eta / 2, batches[0])]
        wide = [run(WIDE, eta), run(WIDE, eta / 2)]
        found = _fitted(n, small + noisy, wide)
        if found.fits:
            return found
        eta /= 2
    assert found is not None
    return found


def _fitted(n: int, trials: list[Trial], wide: list[Trial]) -> Calibration:
    """The constants by weighted least squares with none below 0, and whether the model describes the runs."""
    columns = np.array(
        [[1 / t.width, t.step_size / t.width, t.step_size * (n - t.batch) / (t.batch * max(n - 1, 1))] for t in trials]
    )
    values = np.array([t.variance for t in trials])
    # One relative error for all: that of a single run's variance is itself known to a quarter only.
    relative = float(np.sqrt(np.mean([(t.stderr / t.variance) ** 2 for t in trials])))
    weights = 1 / (relative * values)
    constants, _ = optimize.nnls(weights[:, None] * columns, weights * values)
    errors = np.sqrt(np.diag(np.linalg.pinv((weights[:, None] * columns).T @ (weights[:, None] * columns))))
    residuals = weights * (values - columns @ constants)
    chi_square, degrees = float(residuals @ residuals), len(values) - int((constants > 0).sum())
    p_value = float(stats.chi2.sf(chi_square, degrees))
    coarse, fine = (next(t for t in trials if t.step_size == step and t.batch == n and t.width == WIDTHS[1])
                    for step in (trials[0].step_size, trials[0].step_size / 2))  # fmt: skip
    moved = abs(coarse.variance / fine.variance - 1)
    allowed = SAME + 3 * relative * 2**0.5
    c_bias, bias_error = _bias(*wide)
    reference = 2 * wide[1].mean - wide[0].mean
    begin, left, rate = _settling(wide[0])
    return Calibration(
        c_width=float(constants[0]),
        c_step=float(constants[1]),
        c_batch=float(constants[2]),
        c_bias=c_bias,
        stderr=dict(zip(("c_width", "c_step", "c_batch", "c_bias"), [*map(float, errors), bias_error], strict=True)),
        chi_square=chi_square,
        degrees=degrees,
        p_value=p_value,
        step_size=trials[0].step_size,
        rate=rate,
        settled_at=(begin, left),
        smallest_batch=min(t.batch for t in trials),
        n=n,
        fits=bool(p_value > DOUBT and moved < allowed and np.isfinite(values).all()),
        runs=[
            {"width": t.width, "step_size": t.step_size, "batch": t.batch, "variance": t.variance, "stderr": t.stderr,
             "fitted": float(fit)} for t, fit in zip(trials, columns @ constants, strict=True)
        ],
        reference=reference,
        reference_variance=4 * wide[1].mean_variance + wide[0].mean_variance,
    )  # fmt: skip


def _bias(coarse: Trial, fine: Trial) -> tuple[float, float]:
    """c_bias and its standard error: outputs shift in proportion to eta, so half the step halves the shift."""
    shift = float(np.mean(coarse.curvatures * (coarse.mean - fine.mean) ** 2) / 2)
    noise = coarse.mean_variance + fine.mean_variance
    unit = (coarse.step_size - fine.step_size) ** 2
    return max(shift - noise, 0.0) / unit, noise / unit


def _settling(trial: Trial) -> tuple[float, float, float]:
    """From when, from which distance and at which rate the mean predictions settle, above the noise of few runs."""
    floor = 4 * trial.variance / trial.seeds
    above = int(np.argmax(trial.distance < max(floor, 1e-3 * trial.distance[0])))
    above = max(above, 2)
    begin = int(np.argmax(trial.distance[: above + 1] < trial.distance[0] / 3)) if above > 3 else 0
    begin = min(begin, above - 2)
    slope = np.polyfit(trial.times[begin : above + 1], np.log(trial.distance[begin : above + 1]), 1)[0]
    rate = max(-float(slope), 1 / float(trial.times[-1]))
    spread = int(np.argmax(trial.spread <= SETTLED * trial.variance))  # the start spreads otherwise than the end
    return max(float(trial.times[above]), float(trial.times[spread])), float(trial.distance[above]), rate
