"""Mean-field networks on tables: certified gaps and times, and test losses against other classifiers tuned alike.

    python benchmarks/mean_field_tables.py gaps|rivals [--data DIR] [--log FILE] [--page docs/certificates.md]

Classes: the largest against the rest. DIR (or the environment variable RIRON_DATA) holds NPZ files with X and y;
without it only scikit-learn's own tables are run. `gaps`: the default estimators on as many rows as keep n x p at 2e5,
then on all rows. `rivals`: 1000 rows to train, six settings each by 3-fold cross-validated log loss; LightGBM where
installed. Seconds are of all cores together.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from riron.estimators import MeanFieldClassifier, MeanFieldRegressor

SMALL = 2e5  # n x p of the first table
TRAIN, TEST = 1000, 3000


def tables(folder):
    """Name, features, targets (labels -1 and 1 but for regressions), whether it is a regression."""
    yield "diabetes", *load_diabetes(return_X_y=True), True
    for name, load in (("breast cancer", load_breast_cancer), ("digits", load_digits)):
        yield name, *one_class(*load(return_X_y=True)), False
    for name in ("spam", "dna", "satellite", "letter", "ijcnn1", "mnist5k"):
        path = Path(folder or ".") / f"{name}.npz"
        if folder and path.exists():
            with np.load(path) as file:
                yield name, *one_class(file["X"].astype(float), file["y"]), False


def one_class(X, y):
    labels, counts = np.unique(y, return_counts=True)
    return X, np.where(y == labels[counts.argmax()], 1, -1)


def shuffled(X, y, seed=0):
    order = np.random.default_rng(seed).permutation(len(X))
    return X[order], y[order]


def gap(name, X, y, regression, rows, log):
    X, y = shuffled(X, y)
    made = (MeanFieldRegressor if regression else MeanFieldClassifier)(random_state=0)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.fit(X[:rows], y[:rows])
    seconds, c = time.process_time() - start, made.certificate_
    said = {"status": c.status, "relative": c.relative, "objective": c.objective_rel, "reason": c.reason}
    write(log, {"table": name, "rows": rows, "columns": X.shape[1], "seconds": seconds, "steps": made.n_iter_, **said})


def gaps(folder, log):
    seen = {(row["table"], row["rows"]) for row in read(log)}
    for choose in (lambda X: min(len(X), int(SMALL / (X.shape[1] + 1))), len):
        for name, X, y, regression in tables(folder):
            if (name, choose(X)) not in seen:
                gap(name, X, y, regression, choose(X), log)
                seen.add((name, choose(X)))


def rivals(folder, log):
    seen = {(row["table"], row["model"]) for row in read(log)}
    for name, X, y, regression in tables(folder):
        if regression:
            continue
        X, y = shuffled(X, y)
        train = min(TRAIN, len(X) // 2)
        parts = X[:train], y[:train], X[train : train + TEST], y[train : train + TEST]
        for model, made in candidates().items():
            if (name, model) not in seen:
                write(log, {"table": name, "rows": train, "model": model, **score(made, *parts)})


def candidates():
    """Six settings of each: two hyperparameters that matter most, over comparable ranges."""
    mean_field = MeanFieldClassifier(certify=False, width=300, steps=600, random_state=0)
    mlp = make_pipeline(StandardScaler(), MLPClassifier(max_iter=500, random_state=0))
    svm = make_pipeline(StandardScaler(), SVC(probability=True, random_state=0))
    found = {
        "mean field": (mean_field, [{"lam1": [a], "lam2": [a], "scale": [5, 20]} for a in (0.01, 0.001, 0.0001)]),
        "MLP": (mlp, {"mlpclassifier__alpha": [1e-3, 0.1, 1.0], "mlpclassifier__hidden_layer_sizes": [(30,), (100,)]}),
        "SVM-RBF": (svm, {"svc__C": [1, 10, 100], "svc__gamma": ["scale", "auto"]}),
    }
    try:
        from lightgbm import LGBMClassifier
    except ImportError:
        return found
    lgbm = LGBMClassifier(verbose=-1, n_jobs=1, random_state=0)
    return found | {"LightGBM": (lgbm, {"num_leaves": [7, 31], "n_estimators": [50, 100, 200]})}


def score(made, X, y, X_test, y_test):
    model, grid = made
    if "svc__gamma" in grid:
        grid = {**grid, "svc__gamma": [0.2 / X.shape[1], 1 / X.shape[1]]}
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = GridSearchCV(model, grid, cv=3, scoring="neg_log_loss").fit(X, y)
        p = found.predict_proba(X_test)
    seconds = time.process_time() - start
    losses = -np.log(np.maximum(p[np.arange(len(p)), (y_test > 0).astype(int)], 1e-12))
    return {
        "log_loss": log_loss(y_test, p, labels=[-1, 1]),
        "stderr": float(losses.std(ddof=1) / len(losses) ** 0.5),
        "error": 1 - accuracy_score(y_test, found.predict(X_test)),
        "seconds": seconds,
        "best": str(found.best_params_),
    }


def read(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def write(log, row):
    print(row, flush=True)
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")


def gap_table(rows):
    lines = [
        "| table | rows | columns | n x p | certified gap / objective | seconds | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        size = row["rows"] * (row["columns"] + 1)
        said = f"{100 * row['relative']:.2f} %" if row["status"] == "certified" else f"inconclusive ({row['reason']})"
        start = f"| {row['table']} | {row['rows']} | {row['columns']} | {size:.2g} "
        lines.append(f"{start}| {said} | {row['seconds']:.0f} | {row['steps']} |")
    return "\n".join(lines)


def rival_table(rows):
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = ["| table | rows | " + " | ".join(models) + " |", "|---|---|" + "---|" * len(models)]
    for name in dict.fromkeys(row["table"] for row in rows):
        mine = {row["model"]: row for row in rows if row["table"] == name}
        cells = [
            f"{r['log_loss']:.4f} ± {r['stderr']:.4f}, {100 * r['error']:.1f} %, {r['seconds']:.0f} s" if r else ""
            for r in map(mine.get, models)
        ]
        lines.append(f"| {name} | {next(iter(mine.values()))['rows']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def put(page, text, mark):
    """Replaces what stands between the marks on the page, or adds it at the end."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    old = page.read_text() if page.exists() else ""
    old = old if begin in old else f"{old}\n{begin}\n{end}\n"
    head, _, rest = old.partition(begin)
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gaps", "rivals"))
    parser.add_argument("--data", default=os.environ.get("RIRON_DATA"))
    parser.add_argument("--log", type=Path)
    parser.add_argument("--page", type=Path, default=Path("docs/certificates.md"))
    options = parser.parse_args()
    log = options.log or Path(f"mean_field_{options.what}.jsonl")
    {"gaps": gaps, "rivals": rivals}[options.what](options.data, log)
    make = {"gaps": gap_table, "rivals": rival_table}[options.what]
    put(options.page, make(read(log)), options.what)
