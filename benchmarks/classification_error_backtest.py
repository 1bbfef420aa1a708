"""How good is the forecast of the classification error? Backtest on real tables; writes its page in docs.

    python benchmarks/classification_error_backtest.py [--data DIR] [--draws 4] [--out FILE]

From n0 rows drawn at random, `riron.forecast.classification_curve` forecasts 2 n0 and 4 n0. The truth at n: three
logistic regressions, each trained on n rows of which none is among the n0, its penalty chosen by leave-one-out there,
and tested on up to 4000 rows that are left. DIR (or the environment variable RIRON_DATA) holds NPZ files with X and y;
without it only scikit-learn's tables are run.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_digits

from riron.estimators import LogisticRegressionALO
from riron.forecast.more_data.classification_error import classification_curve

POSITIVE = {"spam": 1, "ijcnn1": 1, "dna": 2, "breast-cancer": 1}  # in the others: the odd classes
NINE = ("spam raw", "spam relu", "satellite raw", "satellite relu", "dna raw", "letter relu")
NINE += ("digits raw", "digits relu", "ijcnn1 relu")
FRESH = ("breast-cancer raw", "breast-cancer relu", "letter raw", "ijcnn1 raw", "mnist5k raw", "mnist5k relu")
SEEDS = 100  # the constants of the forecast were chosen on draws 0 to 3 of the nine sets; the page's begin here
TRUTHS, TEST, FEWEST = 3, 4000, 150
LEVELS = (0.68, 0.9, 0.95)
METHODS = {
    "forecast": "the forecast",
    "sqrt(R S)": "sqrt(R S)",
    "R": "R",
    "P": "P",
    "pow3": "pow3",
    "last": "last value",
}
SIGNS = {
    "upper estimate": "penalty at the end of what could be measured",
    "1 % of the rows carry": "1 % of the rows carry 20 % of the loss",
    "only known to": "loss at hand known to worse than 10 %",
    "wrong when left out": "under 20 rows wrong",
    "smaller class": "smaller class under 10 rows",
}
INTRODUCTION = (
    "Made by `python benchmarks/classification_error_backtest.py --data DIR`. From n0 = 100, 200, 400 random rows of",
    "a table, riron forecasts the held-out error and log loss of tuned ridge-logistic regression at 2 n0 and 4 n0. The",
    "truth: the mean of three, trained on fresh rows (none of the n0), the penalty chosen by leave-one-out there,",
    "tested on up to 4000 rows left. Features: standardised (`raw`), or 300 random ReLU features of those (`relu`).",
    "Two classes: as they are, dna's third against the others, elsewhere the parity of the class. Nine sets, on draws",
    "of rows that had no part in choosing the constants; and fresh sets that had none at all. Every draw is counted.",
)
EXPLAINED = (
    "R: the leave-one-out value at hand times the ratio that the kappa-collapse forecasts for ridge regression's loss.",
    "sqrt(R S): the same with the geometric mean of that ratio and the semi-parametric line's; of the loss it is the",
    "forecast. The forecast of the error: R with its ratio to the power of the elasticity. P: pow3 through the value",
    "at hand; pow3: a + b n^-c through the means of subsets (errors counted smoothly, as in the forecast). Wins: cases",
    "in which the forecast is nearer than pow3 (and than P).",
)


def tables(folder):
    """Name, features and -1/1 labels of each set that is there."""
    files = {name: Path(folder or ".") / f"{name}.npz" for name in ("spam", "satellite", "dna", "letter", "ijcnn1")}
    files["mnist5k"] = Path(folder or ".") / "mnist5k.npz"
    found = {"digits": load_digits(return_X_y=True), "breast-cancer": load_breast_cancer(return_X_y=True)}
    for name, path in files.items():
        if folder and path.exists():
            with np.load(path) as file:
                found[name] = file["X"].astype(float), file["y"]
    for title in (*NINE, *FRESH):
        name, features = title.split()
        if name in found:
            X, y = found[name]
            X = X[:, X.std(axis=0) > 0]
            X = (X - X.mean(axis=0)) / X.std(axis=0)
            if features == "relu":
                W = np.random.default_rng(0).normal(size=(X.shape[1], 300)) / np.sqrt(X.shape[1])
                X = np.maximum(X @ W, 0)
                X = X - X.mean(axis=0)
            yield title, X, np.where(y == POSITIVE[name] if name in POSITIVE else y % 2 == 1, 1.0, -1.0)


def cases(folder, draws):
    """One dictionary for each draw of n0 rows and each of 2 n0 and 4 n0."""
    for title, X, y in tables(folder):
        for n0 in (100, 200, 400):
            for draw in range(draws):
                rng = np.random.default_rng([draw + SEEDS, n0])
                order = rng.permutation(len(X))
                rows, others = order[:n0], order[n0:]
                if min(np.sum(y[rows] > 0), np.sum(y[rows] < 0)) < 2:
                    continue
                start = time.process_time()
                curve = classification_curve(X[rows], y[rows], sizes=[2 * n0, 4 * n0], draws=0)
                seconds = time.process_time() - start
                for ratio in (2, 4):
                    if ratio * n0 + FEWEST <= len(others):
                        truth = np.mean(
                            [_train(X, y, rng.permutation(others), ratio * n0) for _ in range(TRUTHS)], axis=0
                        )
                        case = {"set": title, "n0": n0, "draw": draw, "ratio": ratio, "seconds": seconds}
                        yield case | _compared(curve, ratio * n0, truth)


def _compared(curve, n, truth):
    """All forecasts of loss and error at n, beside the truth."""
    at = curve.sel(n_samples=n)
    loss0, error0 = curve.attrs["loss_at_hand"], curve.attrs["error_at_hand"]
    floor, scale, exponent = curve.attrs["power_law"]
    ratio = at.ridge_line.item() / loss0
    error = {
        "forecast": at.test_error.item(),
        "sqrt(R S)": error0 * at.test_loss.item() / loss0,
        "R": error0 * ratio,
        "P": at.power_law_error.item(),
        "pow3": max(floor + scale * n**-exponent, 1e-4),
        "last": error0,
        "truth": max(truth[1], 1e-4),
    }
    loss = {
        "forecast": at.test_loss.item(),
        "sqrt(R S)": at.test_loss.item(),
        "R": at.ridge_line.item(),
        "P": at.power_law_loss.item(),
        "pow3": at.power_law_loss.item(),
        "last": loss0,
        "truth": truth[0],
    }
    covered = {what: _covered(at, f"test_{what}", value["truth"]) for what, value in (("error", error), ("loss", loss))}
    return {"error": error, "loss": loss, "covered": covered, "warnings": json.loads(curve.attrs["warnings"])}


def _covered(at, name, truth):
    """Whether the truth lies in the interval at each level; on the scale of the logarithm they are all multiples."""
    middle, low = np.log(at[name].item()), np.log(at[f"{name}_low"].item())
    off = abs(np.log(truth) - middle) / (middle - low) * norm.ppf(0.95)
    return {level: bool(off <= norm.ppf((1 + level) / 2)) for level in LEVELS}


def _train(X, y, others, n):
    """Held-out log loss and error of a tuned logistic regression trained on n rows."""
    train, test = others[:n], others[n : n + TEST]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegressionALO(ridges=13).fit(X[train], y[train])
    margin = y[test] * model.decision_function(X[test])
    return np.logaddexp(0, -margin).mean(), np.mean(margin <= 0)


def report(found, seconds):
    """The page, as Markdown."""
    scopes = [
        (f"{title}, x{ratio}", [c for c in found if c["set"] in sets and c["ratio"] == ratio])
        for title, sets in (("nine sets", NINE), ("fresh sets", FRESH))
        for ratio in (2, 4)
    ]
    scopes = [(title, group) for title, group in scopes if group]
    lines = ["# How good is the forecast of the classification error?", "", *INTRODUCTION]
    took = np.median([c["seconds"] for c in found])
    lines += [f"{len(found)} forecasts, {seconds:.0f} s of one core; one forecast without backtest: {took:.1f} s.", ""]
    for what, title in (("error", "Classification error"), ("loss", "Log loss")):
        methods = METHODS if what == "error" else {k: v for k, v in METHODS.items() if k not in ("sqrt(R S)", "pow3")}
        lines += [
            f"## {title}: abs(log(forecast/truth)), median / mean / 90 % quantile; mean abs(difference)",
            "",
            *_head("", "cases", "mean truth", *methods.values(), "wins"),
        ]
        for name, group in scopes:
            cells = []
            for method in methods:
                off = np.abs(_misses(group, what, method))
                gap = np.mean([abs(c[what][method] - c[what]["truth"]) for c in group])
                cells.append(f"{np.median(off):.3f} / {off.mean():.3f} / {np.quantile(off, 0.9):.3f}; {gap:.4f}")
            ours = np.abs(_misses(group, what))
            wins = [np.mean(ours < np.abs(_misses(group, what, rival))) for rival in ("pow3", "P")]
            truth = np.mean([c[what]["truth"] for c in group])
            said = f"{wins[0]:.0%} ({wins[1]:.0%})" if what == "error" else f"{wins[1]:.0%} over P"
            lines.append(_row(name, len(group), f"{truth:.3f}", *cells, said))
        lines.append("")
    lines += [*EXPLAINED, "", "## Intervals: share of cases inside at 68 / 90 / 95 %", "", *_head("", "error", "loss")]
    lines += [_row(name, _shares(group, "error"), _shares(group, "loss")) for name, group in scopes]

    four = [c for c in found if c["ratio"] == 4]
    lines += [
        "",
        "## Warnings: share of the forecasts of the error at four times the rows that are more than 30 % off",
        "",
        *_head("warning", "cases", "off when said", "off when not said"),
    ]
    for phrase, name in SIGNS.items():
        yes = [c for c in four if _says(c, phrase)]
        no = [c for c in four if not _says(c, phrase)]
        if yes:
            lines.append(_row(name, len(yes), _poor(yes), _poor(no)))
    lines += [
        "",
        "## All cases: log(forecast/truth) at four times the rows, one number for each draw",
        "",
        *_head("set", "n0", "error", "of the error", "loss", "of the loss", "warnings, in how many"),
    ]
    key = lambda c: (c["set"], c["n0"])
    for name in dict.fromkeys(map(key, four)):
        group = [c for c in four if key(c) == name]
        cells = []
        for what in ("error", "loss"):
            cells.append(f"{np.mean([c[what]['truth'] for c in group]):.4f}")
            cells.append(" ".join(f"{miss:+.2f}" for miss in _misses(group, what)))
        counts = {title: sum(_says(c, phrase) for c in group) for phrase, title in SIGNS.items()}
        lines.append(_row(*name, *cells, "; ".join(f"{title}: {k}" for title, k in counts.items() if k)))
    return "\n".join(lines) + "\n"


def _misses(group, what, method="forecast"):
    return np.array([np.log(c[what][method] / c[what]["truth"]) for c in group])


def _poor(group):
    return f"{np.mean(np.abs(_misses(group, 'error')) > 0.3):.2f}" if group else "-"


def _says(case, phrase):
    return any(phrase in sentence for sentence in case["warnings"])


def _shares(group, what):
    return " / ".join(f"{np.mean([c['covered'][what][level] for c in group]):.2f}" for level in LEVELS)


def _row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _head(*cells):
    return [_row(*cells), "|" + "---|" * len(cells)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("RIRON_DATA"), help="folder of NPZ files (default: $RIRON_DATA)"
    )
    parser.add_argument("--draws", type=int, default=4, help="of n0 rows")
    default = Path(__file__).parents[1] / "docs" / "classification-error-backtest.md"
    parser.add_argument("--out", type=Path, default=default, help="where the page goes")
    options = parser.parse_args()
    start, found = time.process_time(), []
    for case in cases(options.data, options.draws):
        found.append(case)
        if case["draw"] == 0:
            print(case["set"], case["n0"], case["ratio"], f"{time.process_time() - start:.0f} s", flush=True)
    options.out.write_text(report(found, time.process_time() - start), encoding="utf-8")


if __name__ == "__main__":
    main()
