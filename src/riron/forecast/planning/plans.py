"""What a planner returns: the setting, what it rests on, and how far the proved bound is from it."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from ...errors import InputError
from ...guarantees.base import Guarantee
from ...problems.mean_field import MeanFieldProblem
from .calibration import Calibration
from .trial import Outcome, outcome


@dataclass(frozen=True)
class MeanFieldPlan(Guarantee):
    """A setting of mean-field Langevin dynamics for a wanted excess loss.

    Attributes:
      target: wanted E (1/2n) sum_i loss''_i (f_N(x_i) - f_*(x_i))^2, the excess loss to second order.
      status: "planned" from runs that fit their model, "bound" from the theorem alone, "inconclusive" if no runs did.
      width, step_size, batch, steps: the setting; None where only the bound is known (its numbers are in `bound`).
      expected: what the setting should give, in the units of the target.
      gradient_evaluations: neurons x samples x steps.
      bound: the setting that the theorem asks for, in powers of ten.
      constants: every constant that was used.
      calibration: the runs and their fit, or None.
    """

    assumptions: ClassVar[tuple[str, ...]] = (
        "the bound: every Gibbs measure on the way has the log-Sobolev constant alpha of Holley and Stroock with "
        "osc(V) <= 2 sup|h| mean|loss'|, at the predictions of the start (they are largest there)",
        "the bound: its constant C, which the theorem leaves open, is taken as 1, and full gradients are used",
        "the runs: the variance of the outputs is c_N / N + c_1 eta / N + c_B eta (n - B) / (B (n - 1)), and what the "
        "step size shifts is proportional to its square",
        "the runs: nothing slower than what they showed happens later (a metastable problem breaks this)",
    )

    target: float
    status: str
    width: int | None
    step_size: float | None
    batch: int | None
    steps: int | None
    expected: float | None
    gradient_evaluations: float | None
    bound: dict[str, float]
    constants: dict[str, float]
    calibration: Calibration | None

    @property
    def conservatism(self) -> float | None:
        """log10 of how many times more gradients the bound asks for."""
        if self.gradient_evaluations is None:
            return None
        return self.bound["log10_gradient_evaluations"] - float(np.log10(self.gradient_evaluations))

    def verify(self, problem: MeanFieldProblem, *, seeds: int = 128, seed: int = 1) -> Outcome:
        """Train `seeds` networks as planned; their excess loss over the optimum that the short runs found.

        Raises: InputError if there is no setting to train at.
        """
        if not (self.calibration and self.width and self.step_size and self.batch and self.steps):
            raise InputError(f"the plan's status is '{self.status}', so there is no setting to train at")
        return outcome(
            problem,
            width=self.width,
            step_size=self.step_size,
            batch=self.batch,
            steps=self.steps,
            target=self.target,
            reference=self.calibration.reference,
            reference_variance=self.calibration.reference_variance,
            seeds=seeds,
            seed=seed,
        )

    def __str__(self) -> str:
        b = self.bound
        asked = (
            f"The bound asks for 10^{b['log10_width']:.1f} neurons, step size 10^{b['log10_step_size']:.1f} and "
            f"10^{b['log10_steps']:.1f} steps"
        )
        if self.status == "bound":
            return f"{asked} for an excess loss of {self.target:g}; runs would ask for far less (empirical=True)."
        if self.status == "inconclusive":
            return f"No plan: the runs do not follow their model at any step size that was tried. {asked}."
        assert self.conservatism is not None
        return (
            f"For an excess loss of {self.target:g}: {self.width} neurons, step size {self.step_size:.3g}, "
            f"{self.batch} samples a step, {self.steps} steps (expected {self.expected:.3g}). "
            f"{asked}: 10^{self.conservatism:.1f} times as many gradients."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = asdict(self)
        found["calibration"] = None if self.calibration is None else self.calibration.as_dict()
        return {**found, "conservatism_log10": self.conservatism, "assumptions": list(self.assumptions)}


@dataclass(frozen=True)
class LangevinPlan(Guarantee):
    """Cheapest way for Langevin dynamics on a finite sum to come within a Kullback-Leibler divergence of its target.

    Attributes:
      target: wanted KL(law | exp(-F / temperature)).
      status: "planned".
      methods: per method (gld, sgld, svrg, sarah): gradients, step_size, batch, steps on the quadratic with the same
        Hessian and the same spread of the terms at the mode; gradients are inf where it never gets there.
      best: name of the cheapest.
      bound: (n + d sqrt n / target) (L / alpha)^2 gradients of the theorem for variance reduction, in log10, up to its
        constant; alpha and L: smallest and largest curvature at the mode.
      constants: every constant that was used.
    """

    assumptions: ClassVar[tuple[str, ...]] = (
        "the terms are replaced by their second-order expansions at the mode, in the eigenbasis of the mean Hessian; "
        "covariances between coordinates of different terms are left out",
        "the divergence is that of the Gaussian with the same mean and variances (a lower bound of it for SGLD)",
        "the start lies as far from the mode as `start` says",
        "the bound: its constant is taken as 1",
    )

    target: float
    status: str
    methods: dict[str, dict[str, float]]
    best: str
    bound: dict[str, float]
    constants: dict[str, float]

    def __str__(self) -> str:
        found = self.methods[self.best]
        return (
            f"For a divergence of {self.target:g}: {self.best} with step size {found['step_size']:.3g}, batch "
            f"{found['batch']:g} and {found['steps']:.0f} steps, {found['gradients']:.3g} gradients. The bound for "
            f"variance reduction asks for 10^{self.bound['log10_gradient_evaluations']:.1f}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "assumptions": list(self.assumptions)}
