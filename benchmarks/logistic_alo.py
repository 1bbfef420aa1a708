"""LogisticRegressionALO against LogisticRegressionCV in held-out loss and time; writes docs/logistic-alo.md.

    python benchmarks/logistic_alo.py [--data DIR] [--draws 3] [--out FILE]

Both choose among the same 19 penalties. DIR (or the environment variable RIRON_DATA) holds NPZ files with X and y;
without it only scikit-learn's digits are run.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegressionCV

from riron.estimators import LogisticRegressionALO

BINARY_ROWS, MANY_ROWS = (200, 500, 1000, 2000), (200, 1000)
TEST = 3000
EXACT = 500  # rows up to which every penalty is also refitted without each row
SOLVERS = ("lbfgs", "newton-cholesky")
INTRODUCTION = (
    "Made by `python benchmarks/logistic_alo.py --data DIR`. Ridge-logistic regression with its penalty chosen by",
    "`riron.estimators.LogisticRegressionALO` (approximate leave-one-out with exact refits) and by scikit-learn's",
    "`LogisticRegressionCV` (5 folds, log loss; lbfgs and newton-cholesky at their default tolerance 1e-4, which is",
    "looser than ours; 5000 iterations at most). All choose among the same 19 penalties, on one thread, in turn, in",
    "one process. Features: standardised on the training rows (`raw`), or 300 random ReLU features of those. Two",
    "classes: spam, ijcnn1; the parity of the class (digits, satellite); dna's third class against the others; letters",
    "E and F. More classes (softmax in all): digits, dna, satellite, raw.",
)


def tables(folder):
    """Task, features X and labels y."""
    X, y = load_digits(return_X_y=True)
    yield "digits", np.asarray(X), np.asarray(y)
    for name in ("spam", "dna", "satellite", "letter", "ijcnn1"):
        path = Path(folder or ".") / f"{name}.npz"
        if folder and path.exists():
            with np.load(path) as file:
                yield name, file["X"].astype(float), file["y"]


def tasks(folder):
    """Name, features, X, labels, and the numbers of rows to train on."""
    for name, X, y in tables(folder):
        if name == "letter":
            few = np.isin(y, (4, 5))
            yield "letter E, F", X[few], y[few], BINARY_ROWS
        elif name in ("digits", "satellite"):
            yield f"{name}, parity", X, y % 2, BINARY_ROWS
        else:
            yield name if len(np.unique(y)) == 2 else f"{name}, third class", X, y == y.max(), BINARY_ROWS
        if len(np.unique(y)) > 2 and name != "letter":
            yield f"{name}, {len(np.unique(y))} classes", X, y, MANY_ROWS


def split(X, y, n, features, rng):
    """Training and held-out rows and labels, the features made on the training rows."""
    order = rng.permutation(len(X))
    train, test = order[:n], order[n : n + TEST]
    mean, sd = X[train].mean(axis=0), X[train].std(axis=0)
    kept = sd > 0
    A, B = ((X[rows][:, kept] - mean[kept]) / sd[kept] for rows in (train, test))
    if features == "relu:300":
        W = np.random.default_rng(0).normal(size=(A.shape[1], 300)) / np.sqrt(A.shape[1])
        A, B = np.maximum(A @ W, 0), np.maximum(B @ W, 0)
        A, B = A - A.mean(axis=0), B - A.mean(axis=0)
    return A, y[train], B, y[test]


def cases(folder, draws):
    """One dictionary for each task, kind of features, number of rows and draw."""
    for task, X, y, sizes in tasks(folder):
        for features in ("raw", "relu:300") if "classes" not in task else ("raw",):
            for n in sizes:
                if n + 400 <= len(X):
                    for draw in range(draws):
                        yield _one(task, features, *split(X, y, n, features, np.random.default_rng([draw, n])))


def _one(task, features, A, y, B, z):
    n = len(A)
    ours, seconds = _timed(LogisticRegressionALO(), A, y)
    case = {"task": task, "features": features, "n": n, "ours": _loss(ours, B, z), "seconds": seconds}
    case |= {"refitted": len(ours.refitted_rows_) / n, "loo": ours.alo_loss_}
    for solver in SOLVERS:
        grid = 1 / (n * ours.ridges_)
        rival = LogisticRegressionCV(
            Cs=grid,
            cv=5,
            solver=solver,
            scoring="neg_log_loss",
            max_iter=5000,
            use_legacy_attributes=False,
            l1_ratios=(0,),
        )
        rival, took = _timed(rival, A, y)
        case[solver], case[f"{solver} ratio"] = _loss(rival, B, z), took / seconds
    case["none"] = _loss(_timed(LogisticRegressionALO(refits="none"), A, y)[0], B, z)
    if n <= EXACT and "classes" not in task:
        exact, took = _timed(LogisticRegressionALO(refits=1.0), A, y)
        plain, _ = _timed(LogisticRegressionALO(refits="none"), A, y)
        k = int(np.argmax(exact.scores_))
        case |= {"exact": _loss(exact, B, z), "exact ratio": took / seconds, "exact loo": exact.alo_loss_}
        case |= {
            "alo miss": plain.scores_[k] / exact.scores_[k] - 1,
            "best miss": plain.alo_loss_ / exact.alo_loss_ - 1,
        }
        case["our miss"] = ours.alo_loss_ / exact.alo_loss_ - 1
    return case


def _timed(model, A, y):
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(A, y)
    return model, time.perf_counter() - start


def _loss(model, B, z):
    """Held-out log loss; a class without training rows counts nothing (none occurs with these sizes)."""
    scores, column = model.decision_function(B), np.searchsorted(model.classes_, z)
    if scores.ndim == 1:
        return np.mean(np.logaddexp(0, np.where(column == 1, -scores, scores)))
    return -np.mean(log_softmax(scores, axis=1)[np.arange(len(z)), column])


def report(found, seconds):
    """The page, as Markdown."""
    lines = ["# Logistic regression with approximate leave-one-out", "", *INTRODUCTION]
    lines += [f"{len(found)} cases, {seconds:.0f} s.", "", "## In short", ""]
    for title, group in (
        ("two classes", [c for c in found if "classes" not in c["task"]]),
        ("more classes", [c for c in found if "classes" in c["task"]]),
    ):
        if not group:
            continue
        lines.append(f"{title.capitalize()} ({len(group)} cases):")
        for solver in (*SOLVERS, "none"):
            off = np.array([np.log(c["ours"] / c[solver]) for c in group])
            name = "our own without refits" if solver == "none" else f"LogisticRegressionCV ({solver})"
            lines.append(
                f"- held-out log loss against {name}: ratio {np.exp(off.mean()):.3f} (geometric mean), median "
                f"{np.exp(np.median(off)):.3f}, 5 to 95 % of the cases {np.exp(np.quantile(off, 0.05)):.3f} to "
                f"{np.exp(np.quantile(off, 0.95)):.3f}; better by over 1 % in {np.mean(off < -0.01):.0%}, "
                f"worse by over 1 % in {np.mean(off > 0.01):.0%}."
            )
        for solver in SOLVERS:
            ratio = np.array([c[f"{solver} ratio"] for c in group])
            lines.append(
                f"- time of LogisticRegressionCV ({solver}) / ours: median {np.median(ratio):.1f}, "
                f"{np.quantile(ratio, 0.1):.1f} to {np.quantile(ratio, 0.9):.1f} (10 to 90 %), least {ratio.min():.2f}."
            )
        lines.append("")
    exact = [c for c in found if "exact" in c]
    if exact:
        ratio = [c["exact ratio"] for c in exact]
        lines += [
            f"Against exact leave-one-out at every penalty ({len(exact)} cases of two classes, n up to {EXACT}):",
            f"- held-out loss, ours / exact: geometric mean "
            f"{np.exp(np.mean([np.log(c['ours'] / c['exact']) for c in exact])):.4f}; the same penalty's or a better "
            f"held-out loss in {np.mean([c['ours'] <= c['exact'] * (1 + 1e-6) for c in exact]):.0%}.",
            f"- the leave-one-out loss reported, against the exact minimum: abs(ratio - 1) at most "
            f"{max(abs(c['our miss']) for c in exact):.4f}; without refits median "
            f"{np.median([abs(c['best miss']) for c in exact]):.4f}, largest "
            f"{max(abs(c['best miss']) for c in exact):.3f} (at the exact optimum's penalty median "
            f"{np.median([abs(c['alo miss']) for c in exact]):.4f}, largest "
            f"{max(abs(c['alo miss']) for c in exact):.3f}).",
            f"- time of exact / ours: median {np.median(ratio):.1f}, largest {max(ratio):.1f}.",
            "",
        ]
    lines += ["## All cases, means over the draws", ""]
    head = ["task", "features", "n", "ours", "lbfgs", "newton-cholesky", "no refits", "exact", "time lbfgs / ours"]
    head += ["time newton-cholesky / ours", "our seconds", "rows refitted"]
    lines += [_row(*head), "|" + "---|" * len(head)]
    key = lambda c: (c["task"], c["features"], c["n"])
    for name in dict.fromkeys(map(key, found)):
        group = [c for c in found if key(c) == name]
        mean = lambda field, group=group: np.mean([c[field] for c in group])
        cells = [f"{mean(field):.4f}" for field in ("ours", *SOLVERS, "none")]
        cells.append(f"{mean('exact'):.4f}" if "exact" in group[0] else "")
        cells += [f"{mean(f'{solver} ratio'):.1f}" for solver in SOLVERS]
        lines.append(_row(*name, *cells, f"{mean('seconds'):.2f}", f"{mean('refitted'):.0%}"))
    return "\n".join(lines) + "\n"


def _row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("RIRON_DATA"), help="folder of NPZ files (default: $RIRON_DATA)"
    )
    parser.add_argument("--draws", type=int, default=3)
    default = Path(__file__).parents[1] / "docs" / "logistic-alo.md"
    parser.add_argument("--out", type=Path, default=default, help="where the page goes")
    options = parser.parse_args()
    start, found = time.perf_counter(), []
    for case in cases(options.data, options.draws):
        found.append(case)
        shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in case.items()}
        print(f"{time.perf_counter() - start:.0f} s", shown, flush=True)
    options.out.write_text(report(found, time.perf_counter() - start), encoding="utf-8")


if __name__ == "__main__":
    main()
