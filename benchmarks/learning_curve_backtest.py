"""How good is the forecast of the learning curve? Backtest on real tables; writes docs/learning-curve-backtest.md.

    python benchmarks/learning_curve_backtest.py --fresh [--data DIR] [--draws 10] [--results FILE] [--out FILE]

From n0 rows drawn at random, `riron.forecast.learning_curve` forecasts 2 n0 and 4 n0. The truth at n: ridge regression
is trained on n rows (the n0 and fresh ones), its ridge chosen by leave-one-out there, and tested on all rows that are
left; the mean of four such. No row of the n0 is ever a test row. DIR (or the environment variable RIRON_DATA) holds NPZ
files with X and y; without it only scikit-learn's digits are run. --fresh adds the tables of fresh_tables.py, which had
no part in choosing anything. FILE of results is appended to, and what it holds is not run again. Estimators other than
ridge have a page of their own: estimator_backtest.py.
"""

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
from fresh_tables import fresh_tables
from luck_cures import CURES, cures, varies
from rival_laws import fit, mmf4, pow4
from scipy.stats import norm
from sklearn.datasets import load_digits

from riron.forecast import learning_curve
from riron.theory.learning_curve import ridge_path

SETS = ("spam", "letter", "satellite", "dna", "ijcnn1", "mnist5k")
TARGETS = ("classes", "parity", "number")
TRUTHS = 4
CURED, CURED_ROWS = 1, 400  # draws on which the cures are tried, and the most rows
KNOWN = 0.1  # relative standard error above which a truth is called badly known
LEVELS = (0.68, 0.9, 0.95)
METHODS = {"C": "C (the forecast)", "CP": "sqrt(C P)", "P": "P", "pow3": "pow3", "pow4": "pow4", "mmf4": "MMF4"}
METHODS["last"] = "last value"
SETS_CHOSEN, FRESH = "tables on which the recipe was chosen", "fresh tables"
HEAVY = "1 % of the rows carry"
SIGNS = {  # a phrase of each warning, and what the table calls it
    "falls steeply": "under 200 rows and steep",
    "smaller class": "smaller class under 10 rows",
    HEAVY: "1 % of rows carry 20 % of the loss",
    "only known to": "loss at hand known to worse than 8 %",
    "hold one value": "rare values in two-valued columns",
    "upper estimate": "at the cap",
}
POOR = tuple(phrase for phrase in SIGNS if phrase not in ("upper estimate", "hold one value"))

INTRODUCTION = (
    "Made by `python benchmarks/learning_curve_backtest.py --fresh --data DIR`. From n0 random rows of a table, riron",
    "forecasts the held-out loss of tuned ridge regression at 2 n0 and 4 n0. The truth: the mean of four ridges",
    "trained on so many rows (the n0 among them, the ridge chosen by leave-one-out) and tested on all rows left.",
    "Features: standardised (`raw`), or 300 random ReLU features of those. Targets: one-hot classes; the parity of the",
    "class as -1 and +1, where there are more than two; a number (one column without heavy tails, from the others).",
    "Every draw is counted. From fresh tables, two-valued columns of which one value stands in fewer than 1 % of the",
    "rows are left out: scaled, a few test rows of them would be the whole truth. The recipe of C was chosen on the",
    "other tables; that C is preferred to sqrt(C P), the interval's three constants and the thresholds of the warnings",
    "come from an earlier check on 18 tables, of which some may be among the fresh.",
)
METHODS_EXPLAINED = (
    "C: the kappa-collapse. P: pow3 made to pass through the loss at hand. pow3: a + b n^-c through the means of",
    "subsets; pow4: a + b (n + d)^-c; MMF4: (a b + c n^d)/(b + n^d). Last value: the leave-one-out loss at hand,",
    "carried forward. Truth known to 10 %: cases whose truth has a relative standard error of 0.1 at most, from the",
    "scatter of its four trainings and of the losses of test rows, without a look at any forecast. No heavy tails",
    "said: of those, without the cases of which riron says that 1 % of the rows carry 20 % of the loss.",
)
LUCK_EXPLAINED = (
    "## The luck of the rows, and cures that were tried",
    "",
    "Standard deviation of log loss between draws of the n0 rows, median over the problems. The loss at hand scatters",
    "as its standard error says, sd(loss of a row)/sqrt(n0): the luck is that of the rows as TEST rows, and every way",
    "of splitting the same rows tests on the same rows. So splits other than leave-one-out, more of them, or means",
    "over subsets change little, as the second table shows; none is in the forecast. The interval holds this luck.",
)
FAILURES = (
    "Where it fails: in `shuttle` one row in a thousand lies up to 120 standard deviations out (a column's kurtosis is",
    "7600). A ridge trained on no such row meets them as test rows of leverage 100 to 1500, and 0.1 to 0.3 % of the",
    "test rows then carry 78 to 99 % of the loss; trained on one, it fits them all. The truth is a lottery: trainings",
    "on equally many rows differ by factors of 5 to 100, and the forecast is that of a training that was dealt what",
    "the rows at hand hold. That 1 % of the rows carry 20 % of the loss is said of most of these forecasts, not of",
    "all, and the intervals miss more than half; a narrower sign was sought in the features and not found: a leverage",
    "above 1/2, or a column half of whose variance is in 1 % of the rows, is as common in tables without such harm",
    "(digits, mnist5k). `Default`, `randhie` and `Caravan`: few rows (a class of 3 or 6 %, rare large counts) carry",
    "the loss, so that the loss at hand itself is luck. `College`, `solar-flare` and `breast cancer`: 100 rows, and so",
    "few left for tests that the truth is known to 10 to 35 % only. Nothing in the forecast was chosen after looking",
    "at these cases.",
)
INTERVALS_EXPLAINED = (
    "## Intervals and classification error",
    "",
    "Share of cases inside the interval when 68 / 90 / 95 % is asked for; the classification error's mean",
    "abs(forecast - truth), and mean truth.",
    "",
)


def tables(folder):
    """Name, standardised features and integer classes of each set that is there."""
    X, y = load_digits(return_X_y=True)
    yield "digits", _standardised(np.asarray(X)), np.asarray(y)
    for name in SETS:
        path = Path(folder or ".") / f"{name}.npz"
        if folder and path.exists():
            with np.load(path) as file:
                yield name, _standardised(file["X"].astype(float)), np.unique(file["y"], return_inverse=True)[1]


def problems(folder):
    """Name, features' name, target's name, X (rows, p) and Y (rows, K)."""
    for name, raw, labels in tables(folder):
        targets: dict[str, np.ndarray] = {"classes": np.eye(labels.max() + 1)[labels]}
        if labels.max() > 1:  # with two classes it would be the same problem
            targets["parity"] = 2.0 * (labels % 2)[:, None] - 1
        smooth = np.flatnonzero(np.abs(raw).max(axis=0) < 8)
        if len(smooth):
            column = smooth[np.random.default_rng(1).integers(len(smooth))]
            targets["number"] = raw[:, [column]]
        for target, Y in targets.items():
            given = np.delete(raw, column, axis=1) if target == "number" else raw
            yield name, "raw", target, given, Y
            yield name, "relu:300", target, _relu(given, 300), Y


def fresh_problems(folder):
    """The same of tables that had no part in choosing anything; ReLU features where there are five columns or more."""
    for name, X, y in fresh_tables(folder):
        X = _standardised(X[:, ~_rare(X)])
        if y.dtype.kind == "f":
            target, Y = "number", ((y - y.mean()) / y.std())[:, None]
        else:
            labels = np.unique(y, return_inverse=True)[1]
            target, Y = "classes", np.eye(labels.max() + 1)[labels]
        yield name, "raw", target, X, Y
        if X.shape[1] >= 5 and "patches" not in name:  # the patches are random features already
            yield name, "relu:300", target, _relu(X, 300), Y


def cases(found, draws, part, kept=()):
    """One dictionary for each draw of n0 rows and each of 2 n0 and 4 n0; those of `kept` are not run again."""
    have = {}
    for case in kept:
        have.setdefault(_draw_of(case), []).append(case)
    for name, features, target, X, Y in found:
        for n0 in (100, 200, 400, 1000):
            ratios = [ratio for ratio in (2, 4) if ratio * n0 + (150 if part != FRESH else 100) <= len(X)]
            if (4 not in ratios and part != FRESH) or not ratios or (n0 == 1000 and len(X) < 5000):
                continue
            full = target == "classes" or part == FRESH
            for draw in range(draws if full else -(-draws // 2)):
                where = {"part": part, "set": name, "features": features, "target": target, "n0": n0, "draw": draw}
                if _draw_of(where) in have:
                    yield from have[_draw_of(where)]
                    continue
                rng = np.random.default_rng([draw, n0])
                yield from [
                    where | case for case in _one(X, Y, n0, rng, target, ratios, draw < CURED and n0 <= CURED_ROWS)
                ]


def _draw_of(case):
    return tuple(case[key] for key in ("part", "set", "features", "target", "n0", "draw"))


def _one(X, Y, n0, rng, target, ratios, cured):
    """The forecasts of 2 n0 and 4 n0 from one draw of n0 rows, and the truth there."""
    rows = rng.permutation(len(X))[:n0]
    if not varies(Y[rows]):
        return
    others = np.setdiff1d(np.arange(len(X)), rows)
    sizes = np.array([ratio * n0 for ratio in ratios])
    curve = learning_curve(X[rows], Y[rows], sizes=sizes, draws=0)
    floor, scale, exponent = curve.attrs["power_law"]
    measured = curve.measured_rows.values, curve.measured_loss.values
    rivals = {name: fit(law, *measured)(sizes) for name, law in (("pow4", pow4), ("mmf4", mmf4))}
    kind = {"classes": "one-hot", "parity": "sign", "number": "regression"}[target]
    path = ridge_path(X[rows], Y[rows], kind=kind)
    if cured:
        rivals |= cures(X[rows], Y[rows], path, sizes, kind, np.random.default_rng(n0))
    for k, ratio in enumerate(ratios):
        n = ratio * n0
        at = curve.sel(n_samples=n)
        tried = [_train(X, Y, rows, rng.permutation(others), n, target) for _ in range(TRUTHS)]
        truth, truth_error, _ = np.mean(tried, axis=0)
        spread = np.std([one[0] for one in tried], ddof=1) ** 2 / TRUTHS + np.mean([one[2] ** 2 for one in tried])
        case = {
            "ratio": ratio,
            "truth": truth,
            "truth_se": np.sqrt(spread) / truth,
            "C": at.test_loss.item(),
            "P": at.power_law.item(),
        }
        case["CP"] = np.sqrt(case["C"] * case["P"])
        case["pow3"] = floor + scale * n**-exponent
        case["last"] = curve.attrs["loss_at_hand"]
        case |= {name: float(values[k]) for name, values in rivals.items()}
        case["se"] = path.loss_sd[path.best] / np.sqrt(n0) / path.loss[path.best]
        case["warnings"] = json.loads(curve.attrs["warnings"])
        case["covered"] = _covered(at, "test_loss", truth)
        if target != "number":
            case |= {"error": at.test_error.item(), "truth_error": truth_error}
            case["error_covered"] = _covered(at, "test_error", truth_error)
        yield case


def _covered(at, name, truth):
    """Whether the truth lies in the interval at each level; on the scale of the logarithm they are all multiples."""
    middle, low = np.log(at[name].item()), np.log(at[f"{name}_low"].item())
    off = abs(np.log(max(truth, 1e-12)) - middle) / (middle - low) * norm.ppf(0.95)
    return {str(level): bool(off <= norm.ppf((1 + level) / 2)) for level in LEVELS}


def _train(X, Y, rows, others, n, target):
    """Held-out loss and classification error of tuned ridge trained on n rows, and the standard error of that loss."""
    train, test = np.concatenate([rows, others[: n - len(rows)]]), others[n - len(rows) :]
    path = ridge_path(X[train], Y[train])
    mean, b = X[train].mean(axis=0), Y[train].mean(axis=0)
    A, T, lam = X[train] - mean, Y[train] - b, path.ridge[path.best] * n
    if A.shape[1] <= n:
        theta = np.linalg.solve(A.T @ A + lam * np.eye(A.shape[1]), A.T @ T)
    else:
        theta = A.T @ np.linalg.solve(A @ A.T + lam * np.eye(n), T)
    output = (X[test] - mean) @ theta + b
    losses = ((output - Y[test]) ** 2).sum(axis=1) / 2
    named = np.sign(output) if target != "classes" else np.eye(Y.shape[1])[output.argmax(axis=1)]
    wrong = np.any(named != Y[test], axis=1)
    return losses.mean(), wrong.mean(), losses.std() / np.sqrt(len(test))


def _rare(X):
    """Columns of two values of which one stands in fewer than 1 % of the rows."""
    low, high = (np.equal(X, side).mean(axis=0) for side in (X.min(axis=0), X.max(axis=0)))
    return (low + high == 1) & (np.minimum(low, high) < 0.01)


def _standardised(X):
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def _relu(X, width):
    W = np.random.default_rng(0).normal(size=(X.shape[1], width)) / np.sqrt(X.shape[1])
    Z = np.maximum(X @ W, 0)
    return Z - Z.mean(axis=0)


def report(found):
    """The page, as Markdown."""
    parts = [part for part in (FRESH, SETS_CHOSEN) if any(c["part"] == part for c in found)]
    lines = [
        "# How good is the forecast of the learning curve?",
        "",
        *INTRODUCTION,
        f"{len(found)} forecasts. {_draws(found)} {_names(found)}",
    ]
    for part in parts:
        own = [c for c in found if c["part"] == part]
        lines += ["", f"## Loss on {part}: abs(log(forecast/truth)), median / mean / 90 % quantile", ""]
        lines += _losses(own, METHODS)
    lines += ["", *METHODS_EXPLAINED]
    lines += [
        "",
        *LUCK_EXPLAINED,
        "",
        *_luck(found),
        "",
        "Median / mean / 90 % quantile of abs(log(forecast/truth)):",
        "",
    ]
    for part in parts:
        own = [c for c in found if c["part"] == part and c["ratio"] == 4 and "half" in c]
        lines += [f"On {part}:", "", *_losses(own, {"C": METHODS["C"]} | CURES, pooled=True), ""]
    lines += INTERVALS_EXPLAINED
    for part in parts:
        lines += [f"On {part}:", "", *_intervals([c for c in found if c["part"] == part]), ""]
    four = [c for c in found if c["ratio"] == 4]
    lines += [
        "## Warnings: share of the forecasts for four times the rows that are more than 20 % off",
        "",
        *_head("warning", "cases", "off when said", "off when not said", "inside 90 % when said", "when not said"),
    ]
    for phrases, name in [*(((phrase,), name) for phrase, name in SIGNS.items()), (POOR, "any that says: poor")]:
        said = [_says(c, phrases) for c in four]
        if any(said):
            yes, no = ([c for c, s in zip(four, said, strict=True) if s is want] for want in (True, False))
            lines.append(_row(name, len(yes), _poor(yes), _poor(no), _inside(yes), _inside(no)))
    for part in parts:
        lines += ["", f"## By table, {part}: four times the rows, median / mean", ""]
        lines += _by_table([c for c in four if c["part"] == part])
        if part == FRESH:
            lines += ["", *FAILURES]
    for part in parts:
        lines += [
            "",
            f"## All cases on {part}: log(forecast/truth) at four times the rows, one number for each draw",
            "",
        ]
        lines += _all_cases([c for c in four if c["part"] == part])
    return "\n".join(lines) + "\n"


def _draws(found):
    """How many draws of the n0 rows there are on each problem, least and most."""
    told = []
    for part in dict.fromkeys(c["part"] for c in found):
        own = {_draw_of(c) for c in found if c["part"] == part}
        counts = list(Counter(draw[:-1] for draw in own).values())
        told.append(f"{part}: {min(counts)} to {max(counts)}")
    return f"Draws of the n0 rows by problem, {'; '.join(told)}."


def _names(found):
    fresh = list(dict.fromkeys(c["set"] for c in found if c["part"] == FRESH))
    return f"Fresh tables: {', '.join(fresh)}." if fresh else ""


def _scopes(found, pooled=False):
    """Titles and groups of cases: by target, and all of them, by how far and from how many rows."""
    for target in (*(() if pooled else TARGETS), None):
        for ratio in (2, 4):
            for low, high in ((100, 400), (1000, 1000)):
                group = [c for c in found if c["ratio"] == ratio and low <= c["n0"] <= high]
                group = [c for c in group if target in (None, c["target"])]
                rows = f"{low}" if low == high else f"{low}-{high}"
                if group:
                    yield f"{target or 'all'}, x{ratio}, n0 = {rows}", group
                known = [c for c in group if c["truth_se"] <= KNOWN]
                calm = [c for c in known if not _says(c, (HEAVY,))]
                for title, fewer in (("truth known to 10 %", known), ("no heavy tails said", calm)):
                    if target is None and 0 < len(fewer) < len(group):
                        yield f"all, x{ratio}, n0 = {rows}, {title}", fewer


def _losses(found, methods, pooled=False):
    lines = _head("", "cases", *methods.values())
    for title, group in _scopes(found, pooled):
        misses = [np.abs(_misses(group, method)) for method in methods]
        cells = [f"{np.median(m):.3f} / {m.mean():.3f} / {np.quantile(m, 0.9):.3f}" for m in misses]
        lines.append(_row(title, len(group), *cells))
    return lines


def _luck(found):
    """How far the loss at hand and the forecast scatter between draws of the rows, beside the standard error."""
    lines = _head("n0", "problems", "loss at hand", "C at 4 n0", "standard error of the loss at hand")
    for n0 in (100, 200, 400, 1000):
        by_problem = {}
        for c in found:
            if c["n0"] == n0 and c["ratio"] == 4:
                by_problem.setdefault((c["set"], c["features"], c["target"]), []).append(c)
        many = [group for group in by_problem.values() if len(group) > 2]
        if many:
            scatter = lambda name, many=many: np.median([np.std([np.log(c[name]) for c in g], ddof=1) for g in many])
            luck = np.median([np.sqrt(np.mean([c["se"] ** 2 for c in g])) for g in many])
            lines.append(_row(n0, len(many), f"{scatter('last'):.3f}", f"{scatter('C'):.3f}", f"{luck:.3f}"))
    return lines


def _intervals(found):
    lines = _head("", "loss inside", "error inside", "error off by", "error")
    for title, group in _scopes(found):
        cells = [_shares(group, "covered"), "", "", ""]
        if all("error" in c for c in group):
            off = np.mean([abs(c["error"] - c["truth_error"]) for c in group])
            truth = np.mean([c["truth_error"] for c in group])
            cells[1:] = _shares(group, "error_covered"), f"{off:.4f}", f"{truth:.3f}"
        lines.append(_row(title, *cells))
    return lines


def _all_cases(four):
    lines = _head("set", "features", "target", "n0", "truth", "log(C/truth)", "inside 90 %", "warnings, in how many")
    key = lambda c: (c["set"], c["features"], c["target"], c["n0"])
    for name in dict.fromkeys(map(key, four)):
        group = [c for c in four if key(c) == name]
        counts = {title: sum(_says(c, (phrase,)) for c in group) for phrase, title in SIGNS.items()}
        inside = f"{sum(c['covered']['0.9'] for c in group)} of {len(group)}"
        numbers = " ".join(f"{miss:+.2f}" for miss in _misses(group))
        said = "; ".join(f"{title}: {count}" for title, count in counts.items() if count)
        lines.append(_row(*name, f"{np.mean([c['truth'] for c in group]):.4f}", numbers, inside, said))
    return lines


def _misses(group, method="C"):
    return np.array([np.log(case[method] / case["truth"]) for case in group])


def _by_table(four):
    laws = {name: METHODS[name] for name in ("C", "pow3", "pow4", "mmf4", "last")}
    lines = _head("set", "cases", *laws.values(), "inside 90 %", "standard error of the truth, median")
    for name in dict.fromkeys(c["set"] for c in four):
        group = [c for c in four if c["set"] == name]
        misses = [np.abs(_misses(group, law)) for law in laws]
        cells = [f"{np.median(m):.3f} / {m.mean():.3f}" for m in misses]
        lines.append(_row(name, len(group), *cells, _inside(group), f"{np.median([c['truth_se'] for c in group]):.2f}"))
    return lines


def _inside(group):
    return f"{np.mean([c['covered']['0.9'] for c in group]):.2f}" if group else "-"


def _poor(group):
    return f"{np.mean(np.abs(_misses(group)) > 0.2):.2f}" if group else "-"


def _says(case, phrases):
    return any(phrase in sentence for sentence in case["warnings"] for phrase in phrases)


def _shares(group, name):
    return " / ".join(f"{np.mean([c[name][str(level)] for c in group]):.2f}" for level in LEVELS)


def _row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _head(*cells):
    return [_row(*cells), "|" + "---|" * len(cells)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("RIRON_DATA"), help="folder of NPZ files (default: $RIRON_DATA)"
    )
    parser.add_argument("--draws", type=int, default=10, help="of n0 rows (half as many for parities and numbers)")
    parser.add_argument("--fresh", action="store_true", help="also tables that had no part in choosing anything")
    parser.add_argument("--results", type=Path, help="JSON lines of the cases, kept and continued")
    default = Path(__file__).parents[1] / "docs" / "learning-curve-backtest.md"
    parser.add_argument("--out", type=Path, default=default, help="where the page goes")
    options = parser.parse_args()
    kept, found, start = [], [], time.process_time()
    if options.results and options.results.exists():
        kept = [json.loads(line) for line in options.results.read_text(encoding="utf-8").splitlines()]
    known = {_draw_of(case) for case in kept}
    parts = [(FRESH, fresh_problems(options.data))] if options.fresh else []
    parts.append((SETS_CHOSEN, problems(options.data)))
    for part, given in parts:
        for case in cases(given, options.draws, part, kept):
            found.append(case)
            if options.results and _draw_of(case) not in known:
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(case, default=float) + "\n")
            if case["draw"] == 0 and case["ratio"] == 2:
                seconds = f"{time.process_time() - start:.0f} s"
                print(case["set"], case["features"], case["target"], case["n0"], seconds, flush=True)
    page = report(found)
    options.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
