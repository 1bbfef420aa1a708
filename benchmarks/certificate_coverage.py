"""Coverage of `optimality_gap` on 12 problems with a known optimum; writes the table of docs/certificates.md.

    python benchmarks/certificate_coverage.py [--repetitions 200] [--log FILE] [--page docs/certificates.md]

Every repetition is a fresh key: pilot, ladder, both runs, retries. The truth is quadrature (`mean_field_optimum`, and
the duality gap of the Gibbs measure on a grid). FILE keeps one line a repetition; a second call goes on from there.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np

from riron.estimators.mean_field_fit import train
from riron.guarantees import optimality_gap
from riron.models.neurons import to_neuron
from riron.problems.mean_field import MeanFieldProblem
from riron.theory.gibbs_grid import GibbsGrid
from riron.theory.mean_field_optimum import mean_field_optimum

ROWS = 40
NODES = {1: 4001, 2: 401}
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"

# Name, loss, parameters a neuron, R, lam1 = lam2, where the predictions come from: the optimum, the optimum moved until
# the gap is this number, or a snapshot of Langevin particles (on two of these, local chains fail).
CASES = [
    ("squared, 1-D", "squared", 1, 3.0, 0.02, 0.0),
    ("squared", "squared", 2, 3.0, 0.02, 0.0),
    ("squared, cold", "squared", 2, 3.0, 0.005, 0.0),
    ("logistic", "logistic", 2, 5.0, 0.01, 0.0),
    ("Huber", "huber", 2, 3.0, 0.02, 0.0),
    ("squared, 1-D", "squared", 1, 3.0, 0.02, 0.05),
    ("squared", "squared", 2, 3.0, 0.02, 0.02),
    ("squared, cold", "squared", 2, 3.0, 0.005, 0.1),
    ("logistic, 1-D", "logistic", 1, 5.0, 0.02, 0.01),
    ("Huber", "huber", 2, 3.0, 0.02, 0.05),
    ("squared, cold", "squared", 2, 3.0, 0.005, "snapshot"),
    ("logistic", "logistic", 2, 5.0, 0.01, "snapshot"),
]


def make_problem(loss, dim, R, lam):
    rng = np.random.default_rng(3)
    X = rng.uniform(-2, 2, size=(ROWS, 1))
    y = np.sin(2 * X[:, 0]) + 0.2 * rng.normal(size=ROWS)
    y = np.where(y > 0, 1.0, -1.0) if loss == "logistic" else y
    neuron = to_neuron("tanh", scale=R, bias=dim == 2)
    return MeanFieldProblem(X, y, loss=loss, neuron=neuron, lam1=lam, lam2=lam, width=800)


def predictions_and_truth(loss, dim, R, lam, source):
    """The problem, predictions z, their true gap, and the optimum's objective."""
    problem = make_problem(loss, dim, R, lam)
    optimum = mean_field_optimum(problem)
    grid = GibbsGrid.of(problem, NODES[dim], reach=8.0)
    best = optimum.predictions
    if source == "snapshot":
        W, _ = train(problem, problem.initial(jax.random.key(1)), jax.random.key(2), 4000, 0.05)
        z = np.asarray(problem.model(W, problem.X), np.float64)
    elif source == 0:
        z = best
    else:
        side, low, high = np.cos(2 * np.asarray(problem.X)[:, 0]), 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if grid.gibbs(best + middle * side).duality_gap < source else (low, middle)
        z = best + low * side
    return problem, z, grid.gibbs(z).duality_gap, optimum.objective_rel


def run(repetitions, log):
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    seen = {(row["case"], row["seed"]) for row in done}
    for k, case in enumerate(CASES):
        todo = [seed for seed in range(repetitions) if (k, seed) not in seen]
        if not todo:
            continue
        problem, z, truth, best = predictions_and_truth(*case[1:])
        for seed in todo:
            start = time.perf_counter()
            c = optimality_gap(problem, z, jax.random.fold_in(jax.random.key(k), seed))
            row = {"case": k, "seed": seed, "truth": truth, "optimum": best, "status": c.status, "gap": c.gap}
            row |= {"lower": c.lower, "upper": c.upper, "noise": c.noise, "cv": c.log_weights_cv, "moves": c.moves}
            row |= {"particles": c.particles, "seconds": time.perf_counter() - start, "reason": c.reason}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            done.append(row)
    return done


def table(rows):
    lines = [
        "| loss | parameters | lam1 = lam2 | min L_rel | true gap | median upper limit | covered, one-sided 95 % | "
        "inconclusive | median seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    hits = []
    for k, (name, _, dim, _, lam, source) in enumerate(CASES):
        mine = [row for row in rows if row["case"] == k]
        good = [row for row in mine if row["status"] == "certified"]
        if not good:
            continue
        truth, kind = good[0]["truth"], " (snapshot of Langevin particles)" if source == "snapshot" else ""
        cover = np.array([row["upper"] >= truth for row in good])
        hits.append(cover)
        error = max(np.sqrt(cover.mean() * (1 - cover.mean()) / len(cover)), 0.5 / len(cover))
        upper, seconds = (np.median([row[name] for row in good]) for name in ("upper", "seconds"))
        shown = 0 if truth < 1e-9 else truth
        lines.append(
            f"| {name}{kind} | {dim} | {lam:g} | {good[0]['optimum']:.4f} | {shown:.4g} | {upper:.4g} | "
            f"{cover.mean():.3f} ± {error:.3f} | {len(mine) - len(good)} of {len(mine)} | {seconds:.2f} |"
        )
    pooled = np.concatenate(hits)
    lines += ["", f"Pooled: {pooled.mean():.4f} of {len(pooled)} certificates cover (nominal 0.95)."]
    return "\n".join(lines)


def put(page, text):
    """Replaces what stands between the marks on the page, or adds it at the end."""
    old = page.read_text() if page.exists() else f"{BEGIN}\n{END}\n"
    head, _, rest = old.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--log", type=Path, default=Path("certificate_coverage.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/certificates.md"))
    options = parser.parse_args()
    put(options.page, table(run(options.repetitions, options.log)))
