"""Do networks trained as planned come out as planned? `riron plan --empirical`, then 128 trainings, on five tables.

    python benchmarks/plan_accuracy.py --data FOLDER [--results FILE] [--page [FILE]]

Tables: diabetes, breast cancer and wine (scikit-learn); spam and ijcnn1 (500 rows each) where FOLDER has them. Cases
are kept as they come (JSON lines): a second start goes on.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import sklearn.datasets

from riron.forecast.planning import plan
from riron.forecast.planning.tables import as_mean_field
from riron.lab.compiling import use_persistent_cache

ROWS = 500
SETTING = {"neuron": "tanh", "scale": 5.0, "lam1": 0.05, "lam2": 0.05}
TARGETS = {"diabetes": 0.002, "breast_cancer": 0.0005, "wine": 0.0005, "spam": 0.0005, "ijcnn1": 0.0005}
SEEDS = 128
HEAD = "table, n and d, asked for, neurons, step size, batch, steps, trained, ratio, chi2 (p), bound, seconds"
COLUMNS = HEAD.split(", ")


def load(name: str, folder: Path | None):
    if hasattr(sklearn.datasets, f"load_{name}"):
        return getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    path = folder / f"{name}.npz" if folder else None
    if path is None or not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        X, y = file["X"].astype(float), file["y"]
    rows = np.random.default_rng(0).permutation(len(X))[:ROWS]
    return X[rows], y[rows].astype(str)


def case(name: str, X: np.ndarray, y: np.ndarray) -> dict:
    started = time.process_time()
    y = y if name == "diabetes" else y.astype(str)
    problem, _ = as_mean_field((X, y), target=None, **SETTING)
    found = plan(problem, TARGETS[name], empirical=True)
    planning = time.process_time() - started
    row = {"table": name, "n": problem.X.shape[0], "d": problem.X.shape[1], "planning_seconds": planning}
    row |= {key: value for key, value in found.as_dict().items() if key != "assumptions"}
    if found.status == "planned":
        started = time.process_time()
        row |= {"trained": found.verify(problem, seeds=SEEDS)._asdict()}
        row |= {"training_seconds": time.process_time() - started}
    return row


def page(rows: list[dict]) -> str:
    lines = [
        "# Plans and what came of them",
        "",
        "Made by `python benchmarks/plan_accuracy.py`: tanh neurons with R = 5, lam1 = lam2 = 0.05; the excess loss",
        f"E (1/2n) sum loss'' (f_N - f_*)^2 that was asked for, and that of {SEEDS} networks trained as planned, +-",
        "its standard error. *Bound*: how many times more gradients the proved bound asks for, in powers of ten.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    for r in rows:
        found = r["calibration"]
        fit = f"{found['chi_square']:.1f} on {found['degrees']} ({found['p_value']:.2g})"
        head = f"| {r['table']} | {r['n']}, {r['d']} | {r['target']:g} "
        if r["status"] != "planned":
            lines.append(f"{head}| {r['status']} | | | | | | {fit} | | {r['planning_seconds']:.0f} |")
            continue
        t = r["trained"]
        lines.append(
            f"{head}| {r['width']} | {r['step_size']:.3g} | {r['batch']} | {r['steps']} | {t['excess']:.3g} +- "
            f"{t['stderr']:.1g} | {t['ratio']:.2f} | {fit} | {r['conservatism_log10']:.0f} | "
            f"{r['planning_seconds']:.0f} |"
        )
    planned = [r["trained"]["ratio"] for r in rows if r["status"] == "planned"]
    if planned:
        inside = sum(0.7 <= ratio <= 1.3 for ratio in planned)
        lines += ["", f"{inside} of {len(rows)} tables within 0.7 to 1.3 of the plan. Seconds: of one core, to plan."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RIRON_DATA"), help="folder of NPZ files")
    parser.add_argument("--results", type=Path, default=Path("plan-accuracy.jsonl"))
    parser.add_argument("--page", type=Path, nargs="?", const=Path("docs/plan-accuracy.md"))
    arguments = parser.parse_args()
    use_persistent_cache()
    text = arguments.results.read_text() if arguments.results.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    for name in TARGETS:
        loaded = load(name, arguments.data)
        if loaded is None or name in {row["table"] for row in rows}:
            continue
        rows.append(case(name, *loaded))
        with arguments.results.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1]["table"], rows[-1]["status"], rows[-1].get("trained"), flush=True)
    if arguments.page:
        arguments.page.write_text(page(rows))
    print(page(rows))


if __name__ == "__main__":
    main()
