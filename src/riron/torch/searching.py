"""Which nodes to keep for a budget or an error: rules, and the trials that decide between them.

Trials are fitted on three quarters of the calibration inputs and compared on the rest; inputs held out for the
guarantee take no part.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError
from .building import output_error
from .compressed_model import CompressedModel
from .inputs import Batch, split
from .plan import Plan
from .widths import marginal, step_of, uniform, uniform_to

SEARCHES = 5  # networks tried for `error=`
FEW = 16  # inputs below which none are set aside to choose by
DEEP = 0.2  # share of the budget at or below which curves are measured a second time, on the half-way network


@dataclass
class Search:
    """One plan and what makes networks of it.

    Attributes:
      make: (nodes kept, inputs to fit on) -> network. plan_of: (network, inputs, heads=, qk=) -> plan.
      refits: whether networks are refitted; a plain cut is no network whose curves could be measured.
    """

    plan: Plan
    make: Callable[[dict[str, np.ndarray], list[Batch]], CompressedModel]
    plan_of: Callable[..., Plan]
    calibration: list[Batch]
    round_to: int
    seed: int
    refits: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def steps(self) -> dict[str, int]:
        """What the width of each group is a multiple of."""
        return {g.name: step_of(g, self.round_to) for g in self.plan.nodewise}

    def to_budget(self, budgets: dict[str, Any]) -> CompressedModel:
        """The network within a budget; of several rules the one with the least error on the inputs set aside."""
        trials = [(name, self.plan.nodes(widths)) for name, widths in self._rules(budgets)]
        deep = self._second_round(budgets, trials[0][1])
        if deep is not None:
            trials.append(("two rounds", deep))
        chosen = trials[0]
        if len(trials) > 1 and sum(len(b) for b in self.calibration) >= FEW:
            fitting, checking = split(self.calibration, 0.25, self.seed + 1)
            errors = [output_error(self.plan.original, self.make(k, fitting).model, checking)[0] for _, k in trials]
            chosen = trials[int(np.argmin(errors))]
            said = ", ".join(f"{name} {error:.3g}" for (name, _), error in zip(trials, errors, strict=True))
            self.notes.append(f"{chosen[0]} chosen by the error on a quarter of the calibration inputs ({said})")
        result = self.make(chosen[1], self.calibration)
        result.report.notes.extend(self.notes)
        return result

    def _rules(self, budgets: dict[str, Any]) -> list[tuple[str, dict[str, int]]]:
        """Widths by each rule that applies; the first is taken where nothing can be compared."""
        plan, groups = self.plan, self.plan.nodewise
        full = {g.name: g.width for g in groups}
        if budgets["widths"] is not None:
            return [("widths", self._given(budgets["widths"], full))]
        if budgets["keep"] is not None:
            return [("one round", uniform(groups, budgets["keep"], self.round_to))]
        which = next((k for k in ("params", "macs") if budgets[k] is not None), None)
        if which is None:
            return [("full", full)]
        cost = self._cost(plan, which)
        budget = budgets[which] * plan.cost({})[which == "macs"]
        found = []
        if not plan.adds_up:
            found.append(("uniform widths", uniform_to(groups, cost, budget, self.round_to)))
        if all(g.name in plan.choices for g in groups) and plan.variance == plan.variance:
            by_gain = marginal(plan.curves, cost, budget=budget, round_to=self.steps)
            found.append(("one round" if plan.adds_up else "marginal widths", by_gain))
        return found

    def _given(self, widths: dict[str, int], full: dict[str, int]) -> dict[str, int]:
        for name, width in widths.items():
            if not 1 <= int(width) <= full[name]:
                raise InputError(f"width {width} of '{name}' is outside [1, {full[name]}]")
            blocks = next(g.blocks for g in self.plan.nodewise if g.name == name)
            if int(width) % blocks:
                raise InputError(f"width {width} of '{name}' is no multiple of its {blocks} groups")
        return {**full, **{k: int(v) for k, v in widths.items()}}

    @staticmethod
    def _cost(plan: Plan, which: str) -> Callable[[dict[str, int]], float]:
        return lambda widths: plan.cost({**plan.given_widths, **widths})[which == "macs"]

    def _second_round(self, budgets: dict[str, Any], first: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """Nodes chosen on curves of the network at the square root of the budget; None where that does not apply.

        The curves add errors up layer by layer; far below full width what one layer has lost changes what the next can
        give. The network is then made from the original again.
        """
        plan = self.plan
        which = next((k for k in ("keep", "params", "macs") if budgets[k] is not None), None)
        applies = self.refits and plan.adds_up and not plan.heads and not plan.pairs
        if which is None or budgets[which] > DEEP or not applies:
            return None
        half_way = {**budgets, which: budgets[which] ** 0.5}
        kept = plan.nodes(self._rules(half_way)[-1][1])
        between = self.plan_of(self.make(kept, self.calibration).model, self.calibration, heads=None, qk=None, most=1.0)
        if {g.name for g in between.groups} != {g.name for g in plan.groups}:
            return None
        if which == "keep":
            widths = {name: len(nodes) for name, nodes in first.items()}
        else:
            budget = budgets[which] * plan.cost({})[which == "macs"]
            steps = {g.name: step_of(g, self.round_to) for g in between.nodewise}
            widths = marginal(between.curves, self._cost(between, which), budget=budget, round_to=steps)
        chosen = between.nodes(widths)
        return {name: kept[name][nodes] for name, nodes in chosen.items()}

    def to_error(self, error: float) -> CompressedModel:
        """The smallest network whose error stays below `error` on a quarter of the calibration inputs kept for this.

        The curves say in which order to cut; the measured error says how far.
        """
        plan = self.plan
        fitting, checking = split(self.calibration, 0.25, self.seed + 1)
        cost = self._cost(plan, "params")
        least = sum(float(curve[-1]) for curve in plan.curves.values())
        accepted, allowed, low, high = None, error**2, 0.0, np.inf
        for _ in range(SEARCHES):
            if plan.adds_up:
                most = allowed * plan.variance + least
                chosen = marginal(plan.curves, cost, most=most, round_to=self.steps)
            else:
                chosen = uniform(plan.nodewise, 1 - min(allowed, 1.0), self.round_to)
            trial = self.make(plan.nodes(chosen), fitting)
            reached = output_error(plan.original, trial.model, checking)[0]
            if reached <= error**2:
                accepted, low = trial, allowed
            else:
                high = allowed
            if accepted is trial and reached > 0.7 * error**2:
                break
            step = allowed * float(np.clip(error**2 / max(reached, 1e-300), 0.1, 10.0))
            inside = low < step < high
            allowed = step if inside else float(np.sqrt(max(low, allowed / 10) * min(high, allowed * 10)))
        if accepted is None:
            raise InputError(
                f"error={error} was not met in {SEARCHES} trials",
                do="allow a larger error, or pass more calibration inputs",
            )
        accepted.report.totals["checked_error"] = "a quarter of the calibration inputs chose the widths"
        return accepted
