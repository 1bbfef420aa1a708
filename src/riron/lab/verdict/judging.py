"""The judge: all claims of a study at one false-alarm rate, and what to say about it."""

from collections.abc import Sequence

import xarray as xr

from ...errors import InputError
from .base import Claim
from .curves import Datasets, as_datasets, plain


def judge(
    claims: Claim | Sequence[Claim],
    dots: Datasets | xr.Dataset,
    line: Datasets | xr.Dataset | None = None,
    *,
    alpha: float = 1e-4,
    looks: int = 1,
) -> dict:
    """Compares dots with line under every claim.

    Args:
      claims: one claim or several (Equal, Below, Rate, Ordered, Vanishes).
      dots: {size: Dataset with dims (seed, record)}, or one Dataset where there is one size.
      line: {size: Dataset with dims (record)} with the same sizes and coordinates (None where every claim speaks of
        the dots alone); it may hold `<variable>_stderr`,
        `<variable>_stderr_df` (degrees of freedom of that error) and `<variable>_tolerance` (relative). Its attribute
        `theory` names the function in messages.
      alpha: probability that a true theory fails, over all claims and points together.
      looks: how many times the same study may be judged as seeds are added; alpha is divided among them.

    Returns: plain data, ready for JSON: `verdict` (holds, fails, inconclusive), `reason` (a sentence),
      `seeds_that_would_decide` (None where seeds do not help), `comparisons` (one for each claim), `seeds`, `sizes`,
      `diverged` (how many seeds), `diverged_seeds`, `alpha`, `looks`.

    Raises: InputError for data that cannot be compared: sizes or coordinates that differ, fewer than 4 seeds, a line
      that is not finite, fewer than three sizes for a limit.
    """
    claims = (claims,) if isinstance(claims, Claim) else tuple(claims)
    if not claims:
        raise InputError("there is no claim to judge", do="give at least one, such as Equal('test_loss')")
    if not 0 < alpha < 1:
        raise InputError(f"alpha={alpha} is outside (0, 1)", do="give the false-alarm rate of the whole study")
    if not looks >= 1:
        raise InputError(f"looks={looks} must be a whole number >= 1")
    wanted = any(claim.needs_line for claim in claims)
    measured, predicted = as_datasets(dots, "dots"), as_datasets(line or {}, "line") if wanted else {}
    if wanted and list(measured) != list(predicted):
        raise InputError(
            f"the dots have the sizes {plain(list(measured))} and the line has {plain(list(predicted))}",
            do="give both at the same sizes",
        )
    curves = [claim.read(measured, predicted) for claim in claims]
    tests = sum(claim.tests(found) for claim, found in zip(claims, curves, strict=True))
    level = alpha / looks / tests
    comparisons = [claim.compare(found, level) for claim, found in zip(claims, curves, strict=True)]
    lost = list(dict.fromkeys(name for comparison in comparisons for name in comparison["diverged_seeds"]))
    verdict = overall([comparison["verdict"] for comparison in comparisons])
    decisive = [comparison for comparison in comparisons if comparison["verdict"] == verdict]
    needed = [comparison["seeds_that_would_decide"] for comparison in decisive]
    return {
        "verdict": verdict,
        "reason": "; ".join(f"{c['variable']}: {c['reason']}" for c in decisive),
        "seeds_that_would_decide": None if verdict != "inconclusive" or None in needed else max(needed),
        "seeds": max(len(curve.seeds) for found in curves for curve in found),
        "sizes": [plain(size) for size in measured if size is not None],
        "comparisons": comparisons,
        "diverged": len(lost),
        "diverged_seeds": lost,
        "alpha": alpha,
        "looks": looks,
    }


def overall(verdicts: Sequence[str]) -> str:
    """`fails` if any fails, else `holds` if all hold, else `inconclusive`."""
    if "fails" in verdicts:
        return "fails"
    return "holds" if all(verdict == "holds" for verdict in verdicts) else "inconclusive"


def describe(report: dict) -> list[str]:
    """One line for each comparison, as the command line prints them."""
    width = max((len(comparison["variable"]) for comparison in report["comparisons"]), default=0)
    lines = []
    for comparison in report["comparisons"]:
        worst, parts = comparison.get("worst") or {}, []
        if worst.get("t") is not None:
            parts.append(f"worst t {worst['t']:+.1f} (critical {comparison['critical']:.1f})")
        if comparison.get("line_over_dots") is not None:
            parts.append(f"line/dots {comparison['line_over_dots']:.3f}")
        if comparison.get("looseness"):
            parts.append("loose by {median:.3g} (worst {worst:.3g})".format(**comparison["looseness"]))
        if comparison.get("slope") is not None:
            parts.append(f"slope {comparison['slope']:.3f} ± {comparison['slope_stderr']:.2g}")
        if comparison.get("ratio") is not None:
            parts.append(f"ratio {comparison['ratio']:.3g}")
        if comparison.get("would_notice") is not None:
            parts.append(f"would notice {100 * comparison['would_notice']:.1f} %")
        if comparison["verdict"] != "holds":
            parts.append(comparison["reason"])
        lines.append(f"{comparison['variable']:<{width}}  {comparison['verdict']:<12}  {'; '.join(parts)}")
    return lines
