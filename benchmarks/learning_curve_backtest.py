"""How good is the forecast of the learning curve? Backtest on real tables; writes docs/learning-curve-backtest.md.

    python benchmarks/learning_curve_backtest.py [--data DIR] [--draws 10] [--out FILE]

From n0 rows drawn at random, `riron.forecast.learning_curve` forecasts 2 n0 and 4 n0. The truth at n: ridge regression
is trained on n rows (the n0 and fresh ones), its ridge chosen by leave-one-out there, and tested on all rows that are
left; the mean of four such. No row of the n0 is ever a test row. DIR (or the environment variable RIRON_DATA) holds NPZ
files with X and y; without it only scikit-learn's digits are run.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_digits

from riron.forecast import learning_curve
from riron.theory.learning_curve import ridge_path

SETS = ("spam", "letter", "satellite", "dna", "ijcnn1", "mnist5k")
TARGETS = ("classes", "parity", "number")
TRUTHS = 4
LEVELS = (0.68, 0.9, 0.95)
METHODS = {"C": "C (the forecast)", "CP": "sqrt(C P)", "P": "P", "pow3": "pow3", "last": "last value"}
SIGNS = {  # a phrase of each warning, and what the table calls it
    "falls steeply": "under 200 rows and steep",
    "smaller class": "smaller class under 10 rows",
    "1 % of the rows carry": "1 % of rows carry 20 % of the loss",
    "only known to": "loss at hand known to worse than 8 %",
    "hold one value": "rare values in two-valued columns",
    "upper estimate": "at the cap",
    "In the backtest": "backtest misses",
}
POOR = tuple(phrase for phrase in SIGNS if phrase not in ("upper estimate", "hold one value"))

INTRODUCTION = (
    "Made by `python benchmarks/learning_curve_backtest.py --data DIR`. From n0 random rows of a table, riron",
    "forecasts the held-out loss of tuned ridge regression at 2 n0 and 4 n0. The truth: the mean of four ridges",
    "trained on so many rows (the n0 among them, the ridge chosen by leave-one-out) and tested on all rows left.",
    "Features: standardised (`raw`), or 300 random ReLU features of those. Targets: one-hot classes; the parity of the",
    "class as -1 and +1, where there are more than two; a number (one column without heavy tails, from the others).",
    "Every draw is counted.",
)
METHODS_EXPLAINED = (
    "C: the kappa-collapse. P: pow3 made to pass through the loss at hand. pow3: a + b n^-c through the means of",
    "subsets. Last value: the leave-one-out loss at hand, carried forward.",
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


def cases(folder, draws):
    """One dictionary for each draw of n0 rows and each of 2 n0 and 4 n0."""
    for name, features, target, X, Y in problems(folder):
        for n0 in (100, 200, 400, 1000):
            if 4 * n0 + 150 > len(X) or (n0 == 1000 and len(X) < 5000):
                continue
            for draw in range(draws if target == "classes" else -(-draws // 2)):
                where = {"set": name, "features": features, "target": target, "n0": n0, "draw": draw}
                yield from (where | case for case in _one(X, Y, n0, np.random.default_rng([draw, n0]), target))


def _one(X, Y, n0, rng, target):
    """The forecasts of 2 n0 and 4 n0 from one draw of n0 rows, and the truth there."""
    rows = rng.permutation(len(X))[:n0]
    others = np.setdiff1d(np.arange(len(X)), rows)
    curve = learning_curve(X[rows], Y[rows], sizes=[2 * n0, 4 * n0])
    floor, scale, exponent = curve.attrs["power_law"]
    for ratio in (2, 4):
        n = ratio * n0
        at = curve.sel(n_samples=n)
        tried = [_train(X, Y, rows, rng.permutation(others), n, target) for _ in range(TRUTHS)]
        truth, truth_error = np.mean(tried, axis=0)
        case = {"ratio": ratio, "truth": truth, "C": at.test_loss.item(), "P": at.power_law.item()}
        case["CP"] = np.sqrt(case["C"] * case["P"])
        case["pow3"] = floor + scale * n**-exponent
        case["last"] = curve.attrs["loss_at_hand"]
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
    return {level: bool(off <= norm.ppf((1 + level) / 2)) for level in LEVELS}


def _train(X, Y, rows, others, n, target):
    """Held-out loss and classification error of tuned ridge trained on n rows."""
    train, test = np.concatenate([rows, others[: n - len(rows)]]), others[n - len(rows) :]
    path = ridge_path(X[train], Y[train])
    mean, b = X[train].mean(axis=0), Y[train].mean(axis=0)
    A, T, lam = X[train] - mean, Y[train] - b, path.ridge[path.best] * n
    if A.shape[1] <= n:
        theta = np.linalg.solve(A.T @ A + lam * np.eye(A.shape[1]), A.T @ T)
    else:
        theta = A.T @ np.linalg.solve(A @ A.T + lam * np.eye(n), T)
    output = (X[test] - mean) @ theta + b
    loss = ((output - Y[test]) ** 2).sum(axis=1).mean() / 2
    if target == "classes":
        return loss, np.mean(output.argmax(axis=1) != Y[test].argmax(axis=1))
    return loss, np.mean(np.sign(output) != Y[test])


def _standardised(X):
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def _relu(X, width):
    W = np.random.default_rng(0).normal(size=(X.shape[1], width)) / np.sqrt(X.shape[1])
    Z = np.maximum(X @ W, 0)
    return Z - Z.mean(axis=0)


def report(found, seconds):
    """The page, as Markdown."""
    scopes = []
    for target in TARGETS:
        for ratio in (2, 4):
            for low, high in ((100, 400), (1000, 1000)):
                group = [c for c in found if c["target"] == target and c["ratio"] == ratio and low <= c["n0"] <= high]
                if group:
                    rows = f"{low}" if low == high else f"{low}-{high}"
                    scopes.append((f"{target}, x{ratio}, n0 = {rows}", group))
    lines = [
        "# How good is the forecast of the learning curve?",
        "",
        *INTRODUCTION,
        f"{len(found)} forecasts, {seconds:.0f} s of one core.",
        "",
        "## Loss: abs(log(forecast/truth)), median / mean / 90 % quantile",
        "",
        *_head("", "cases", *METHODS.values()),
    ]
    for title, group in scopes:
        misses = [np.abs(_misses(group, method)) for method in METHODS]
        cells = [f"{np.median(m):.3f} / {m.mean():.3f} / {np.quantile(m, 0.9):.3f}" for m in misses]
        lines.append(_row(title, len(group), *cells))
    lines += [
        "",
        *METHODS_EXPLAINED,
        "",
        "## Intervals and classification error",
        "",
        "Share of cases inside the interval when 68 / 90 / 95 % is asked for; the classification error's mean",
        "abs(forecast - truth), and mean truth.",
        "",
        *_head("", "loss inside", "error inside", "error off by", "error"),
    ]
    for title, group in scopes:
        cells = [_shares(group, "covered"), "", "", ""]
        if "error" in group[0]:
            off = np.mean([abs(c["error"] - c["truth_error"]) for c in group])
            cells[1:] = (
                _shares(group, "error_covered"),
                f"{off:.4f}",
                f"{np.mean([c['truth_error'] for c in group]):.3f}",
            )
        lines.append(_row(title, *cells))

    four = [c for c in found if c["ratio"] == 4]
    lines += [
        "",
        "## Warnings: share of the forecasts for four times the rows that are more than 20 % off",
        "",
        *_head("warning", "cases", "off when said", "off when not said"),
    ]
    for phrases, name in [*(((phrase,), name) for phrase, name in SIGNS.items()), (POOR, "any that says: poor")]:
        said = [_says(c, phrases) for c in four]
        if any(said):
            yes, no = ([c for c, s in zip(four, said, strict=True) if s is want] for want in (True, False))
            lines.append(_row(name, len(yes), _poor(yes), _poor(no)))

    lines += [
        "",
        "## All cases: log(forecast/truth) at four times the rows, one number for each draw",
        "",
        *_head("set", "features", "target", "n0", "truth", "log(C/truth)", "inside 90 %", "warnings, in how many"),
    ]
    key = lambda c: (c["set"], c["features"], c["target"], c["n0"])
    for name in dict.fromkeys(map(key, four)):
        group = [c for c in four if key(c) == name]
        counts = {title: sum(_says(c, (phrase,)) for c in group) for phrase, title in SIGNS.items()}
        inside = f"{sum(c['covered'][0.9] for c in group)} of {len(group)}"
        numbers = " ".join(f"{miss:+.2f}" for miss in _misses(group))
        said = "; ".join(f"{title}: {count}" for title, count in counts.items() if count)
        lines.append(_row(*name, f"{np.mean([c['truth'] for c in group]):.4f}", numbers, inside, said))
    return "\n".join(lines) + "\n"


def _misses(group, method="C"):
    return np.array([np.log(case[method] / case["truth"]) for case in group])


def _poor(group):
    return f"{np.mean(np.abs(_misses(group)) > 0.2):.2f}" if group else "-"


def _says(case, phrases):
    return any(phrase in sentence for sentence in case["warnings"] for phrase in phrases)


def _shares(group, name):
    return " / ".join(f"{np.mean([c[name][level] for c in group]):.2f}" for level in LEVELS)


def _row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _head(*cells):
    return [_row(*cells), "|" + "---|" * len(cells)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("RIRON_DATA"), help="folder of NPZ files (default: $RIRON_DATA)"
    )
    parser.add_argument("--draws", type=int, default=10, help="of n0 rows (half as many where y is no class)")
    default = Path(__file__).parents[1] / "docs" / "learning-curve-backtest.md"
    parser.add_argument("--out", type=Path, default=default, help="where the page goes")
    options = parser.parse_args()
    start, found = time.process_time(), []
    for case in cases(options.data, options.draws):
        found.append(case)
        if case["draw"] == 0 and case["ratio"] == 2:
            done = f"{time.process_time() - start:.0f} s"
            print(case["set"], case["features"], case["target"], case["n0"], done, flush=True)
    page = report(found, time.process_time() - start)
    options.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
