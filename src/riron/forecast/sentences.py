"""What a forecast says, in sentences that a practitioner understands."""

from collections.abc import Iterator

import numpy as np

from .advising.schedules import Schedule
from .breaking_rows import breaking_sentences
from .options import SEARCHED
from .result import Forecast

ROUNDING = 1e-12  # a spread below this share of the loss is none


def edge_sentence(found: Forecast) -> str:
    """Where the edge lies, and where the step size lies."""
    edge = found.edge
    if edge is None:
        best = found.best_step.get(found.batch)
        text = f"The {found.training.loss} loss has no stability edge: a step too large makes SGD noisy, not divergent."
        return text if best is None else f"{text} The step of least forecast held-out loss is {sig(best)}."
    ratio = edge["homogenized"] / edge["step_size"]
    theory = "The published theory (homogenised SGD)"
    text = (
        f"With batch {found.batch} SGD converges in mean square for step sizes below {sig(edge['step_size'])}; "
        f"{sig(found.step_size)} is {sig(edge['fraction'], 2)} of that."
    )
    if found.above_edge:
        text = (
            f"WARNING: with batch {found.batch} SGD converges in mean square only for step sizes below "
            f"{sig(edge['step_size'])}, and {sig(found.step_size)} is {sig(edge['fraction'], 3)} times that: it "
            f"diverges. The mean loss grows by {sig(edge['growth_factor'], 5)} a step and doubles every "
            f"{sig(edge['doubling_steps'])} steps."
        )
    if ratio > 1.05:
        text += f" {theory} would allow {sig(edge['homogenized'])}, {sig(ratio, 2)} times too much."
    elif ratio < 0.95:
        text += f" {theory} would allow {sig(edge['homogenized'])} only."
    else:
        text += f" {theory} says the same."
    return text


def rows_sentence(found: Forecast) -> str:
    """Which rows set the edge."""
    edge = found.edge
    assert edge is not None
    if edge["step_size"] > 0.95 * edge["ceiling"]:
        return "It is set by the curvature (2 / largest eigenvalue), as in gradient descent, and not by single rows."
    if edge["without_them"] is None:
        few = f"the {len(edge['rows'])} of largest share carry {percent(edge['share'])} of the feedback"
        return f"No few rows set it: {few}."
    listed = [
        f"{r['row']} ({percent(r['share'])}; {sig(r['times_mean_leverage'], 2)} times the mean leverage)"
        for r in edge["rows"]
        if r["share"] >= 0.05
    ]
    few = f"row {listed[0]}" if len(listed) == 1 else f"rows {', '.join(listed)}"
    said = f"Of the feedback that sets it, most goes through {few}. (Rows are counted from 1, the header not counted.)"
    return " ".join([said, *breaking_sentences(found.heavy_rows)])


def curve_sentence(found: Forecast) -> str:
    """Where training ends, and where it should have ended."""
    curve = found.curve
    if found.above_edge:
        return (
            "Above the edge there is no curve to rely on: early losses are shown, but the mean explodes in the long "
            "run at the rate above."
        )
    end, best = curve.isel(step=-1), curve.isel(step=int(np.argmin(curve.test_loss.values)))
    text = f"After {sig(float(end.epoch))} epochs: train loss {loss(end, 'train_loss')}"
    text += f", held-out loss {loss(end, 'test_loss')}"
    if found.classes:
        text += (
            f", error {percent(end.test_error)} (always the commonest class: {percent(found.about['baseline_error'])})"
        )
    else:
        text += f", typical held-out error {units(found, end.test_loss)}"
    if float(best.test_loss) < 0.995 * float(end.test_loss):
        what = (
            f", error {percent(best.test_error)}"
            if found.classes
            else f", typical error {units(found, best.test_loss)}"
        )
        place = f"at epoch {sig(float(best.epoch), 2)} ({sig(float(best.test_loss))}{what})"
        text += f". Stop earlier: the held-out loss is lowest {place}"
    else:
        text += ". The held-out loss still falls or is flat at the end"
    return text + ". Numbers behind +- are the spread between runs (one standard deviation)."


def advice_sentence(found: Forecast) -> str:
    """The best setting, and how many cannot be told from it."""
    best = next(s for s in found.advice if s["best"])
    cheapest = found.advice[0]
    text = (
        f"{len(found.advice)} combinations of step size and batch (of {found.considered} settings with their stopping "
        f"times) cannot be told from the best by the held-out rows. Best: {setting(found, best)}."
    )
    if cheapest is not best:
        text += f" Cheapest of them: {setting(found, cheapest)}."
    what = "" if found.classes else f" Typical errors are root mean squares in units of {found.about['target']}."
    return f"{text} Behind +-: the luck of the held-out rows.{what}"


def more_data_sentence(found: Forecast) -> str:
    """What twice and four times the data would bring."""
    curve = found.learning_curve
    n = int(curve.n_samples[0])
    name = "test_error" if found.classes else "test_loss"
    form = percent if found.classes else (lambda value: units(found, value))
    now = form(curve[name][0])
    parts = []
    for factor, words in ((2, "Twice the data"), (4, "four times")):
        at = curve.sel(n_samples=factor * n, method="nearest")
        parts.append(
            f"{words} would bring it to {form(at[name])} ({form(at[f'{name}_low'])} to {form(at[f'{name}_high'])})"
        )
    what = "error" if found.classes else f"typical error of {found.about['target']}"
    first = parts[0].replace("it to", f"the {what} from {now} to", 1)
    level = curve.attrs["level"]
    model = learner(found)
    return f"{first}; {parts[1]}. ({model}, {n} rows now; {level:.0%} intervals hold the luck of these rows.)"


def learner(found: Forecast) -> str:
    """What the learning curve is of."""
    name = found.learning_curve.attrs.get("estimator")
    if name:
        return str(name)
    return "Well-tuned ridge" if "power_law" in found.learning_curve else "Well-tuned logistic regression"


def training_sentence(found: Forecast) -> str:
    """How it is trained, in words."""
    t = found.training
    parts = [f"{t.loss} loss", f"batch {t.batch}"]
    parts.append(
        f"step size {sig(t.step_size)}" if np.isscalar(t.step_sizes) else f"step sizes up to {sig(t.step_size)}"
    )
    if not isinstance(t.schedule, str):
        parts.append("the best schedule found" if found.options.schedule == SEARCHED else "schedule from a file")
    elif t.schedule != "constant":
        parts.append(f"{t.schedule} schedule")
    if t.warmup:
        parts.append(f"warm-up of {t.warmup} steps")
    if t.momentum:
        parts.append(f"{'Nesterov ' if t.nesterov else ''}momentum {t.momentum:g}")
    if t.average_from is not None:
        parts.append(f"iterates averaged from step {t.average_from}")
    return ", ".join(parts) + f", {t.steps} steps"


def schedule_sentence(schedule: Schedule) -> str:
    """What the best schedule gives beside the named ones."""
    named = {kind: each["test_loss"] for kind, each in schedule.forecasts.items() if kind != "optimised"}
    others = ", ".join(f"{kind} {sig(value, 4)}" for kind, value in named.items())
    own = sig(schedule.forecasts[schedule.kind]["test_loss"], 4)
    if schedule.kind != "optimised":
        return f"No schedule was found that beats the best {schedule.kind} one (forecast held-out losses: {others})."
    return f"The best schedule found has forecast held-out loss {own}; at their best peaks: {others}."


def backtest_sentence(found: Forecast) -> str:
    """How well the same recipe forecasts what is known already."""
    curve = found.learning_curve
    if not curve.sizes.get("backtest"):
        return "There are too few rows for a backtest of this forecast."
    name, truth = (
        ("backtest_error", "backtest_error_truth") if found.classes else ("backtest_forecast", "backtest_truth")
    )
    low, high = ("backtest_error_low", "backtest_error_high") if found.classes else ("backtest_low", "backtest_high")
    form = percent if found.classes else (lambda value: units(found, value))
    parts = []
    for origin in np.unique(curve.backtest_from):
        of = curve.isel(backtest=(curve.backtest_from == origin).values)
        inside = int(((of[low] <= of[truth]) & (of[truth] <= of[high])).sum())
        tries = int(of.sizes["backtest"])
        parts.append(f"{form(of[name].mean())} from {origin} rows (interval right in {inside} of {tries})")
    said = f"for all {int(curve.backtest_to[0])} rows it would have said {' and '.join(parts)}"
    return f"Backtest: {said}; measured {form(curve[truth][0])}."


def time_sentence(found: Forecast) -> str:
    """Seconds, beside those of one training run."""
    took, one = found.seconds["forecast"], found.seconds.get("one_training_run")
    text = f"The forecast took {sig(took, 2)} s (reading, {found.considered} settings, every seed at once)"
    return text + (f"; one compiled training run takes {sig(one, 2)} s here." if one is not None else ".")


def columns(found: Forecast) -> Iterator[str]:
    """What was done to the columns, one line for each action and detail."""
    groups: dict[tuple[str, str], list[str]] = {}
    for record in found.cleaning:
        groups.setdefault((record["action"], record["detail"]), []).append(record["column"])
    for (action, detail), names in groups.items():
        shown = ", ".join(f"'{name}'" for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        yield f"- {action}{f' ({detail})' if detail else ''}: {shown}"


def python_lines(found: Forecast) -> str:
    """The lines that repeat the forecast."""
    options, default = vars(found.options), type(found.options)(data="")
    changed = {k: v for k, v in options.items() if k != "data" and v != getattr(default, k)}
    changed["batch"] = found.batch
    if isinstance(found.training.schedule, str):  # others hold the step sizes themselves
        changed["step_size"] = float(f"{found.step_size:.6g}")
    arguments = ", ".join(f"{k}={v!r}" for k, v in changed.items())
    data = repr(options["data"]) if isinstance(options["data"], str) else "data"
    return (
        "  from riron.forecast import forecast_table\n"
        f"  found = forecast_table({data}, {arguments})\n"
        "  found.curve, found.advice, found.learning_curve, found.plot()"
    )


def setting(found: Forecast, s: dict) -> str:
    """One setting in words."""
    what = f"loss {sig(s['test_loss'])}"
    if not found.classes:
        what = f"typical error {units(found, s['test_loss'])}"
    elif s["test_error"] is not None:
        what = f"error {percent(s['test_error'])}"
    return f"batch {s['batch']}, step size {sig(s['step_size'])}, {sig(s['epochs'], 2)} epochs (forecast {what})"


def budget(found: Forecast) -> float:
    """Epochs that the advice may use."""
    return found.options.budget or found.options.epochs


def units(found: Forecast, value) -> str:
    """Root mean square error in the target's units, from a loss |f - y|^2 / 2 of the scaled target."""
    return sig(float(np.sqrt(2 * max(float(value), 0))) * found.about["target_scale"])


def loss(at, name: str) -> str:
    """A loss with the spread between runs."""
    value, spread = float(at[name]), float(at[f"{name}_sd"])
    return f"{sig(value)} +- {sig(spread if spread > ROUNDING * value else 0.0, 2)}"


def percent(value) -> str:
    """A share in per cent."""
    number = 100 * float(value)
    return f"{number:.1f} %" if number < 99.95 else f"{number:.0f} %"


def sig(value: float, digits: int = 3) -> str:
    """A number to so many digits, without an exponent where it reads well."""
    if not np.isfinite(value):
        return "inf" if value > 0 else "nan"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:#.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return text.rstrip(".")
