"""Which loss for classes? Error rates of the squared loss beside those of the logistic and the softmax loss.

    python benchmarks/loss_for_classes.py --data FOLDER [--results FILE] [--page [FILE]]

For each set and loss the step size that the advice finds best for batch 32 within 10 epochs (shuffled), trained 16
times: the share of held-out rows misclassified at the end. Beside it what the forecast said, and what it cost.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from forecast_errors import SETS, load

from riron.forecast import Forecaster
from riron.lab.compiling import use_persistent_cache

ROWS, HELD_OUT, SEEDS = 1000, 1000, 16
SETTING = {"batch": 32, "epochs": 10, "seed": 0}


def case(name: str, loss: str, X: np.ndarray, y: np.ndarray) -> dict:
    """Error rate at the end, measured and forecast."""
    order = np.random.default_rng(0).permutation(len(X))[: ROWS + HELD_OUT]
    share = HELD_OUT / (ROWS + HELD_OUT)
    started = time.process_time()
    made = Forecaster(loss=loss, test=share, **SETTING).fit((X[order], y[order].astype(str)))
    training = made.training()
    line = made.curve(training)
    seconds = time.process_time() - started
    seen = made.verify(SEEDS, training=training, line=line)
    errors = seen.dots.test_error.values[:, -1]
    return {
        "set": name,
        "loss": loss,
        "classes": len(np.unique(y)),
        "n": made.table_.n,
        "step_size": training.step_size,
        "error": float(errors.mean()),
        "stderr": float(errors.std(ddof=1) / np.sqrt(SEEDS)),
        "luck": float(np.sqrt(errors.mean() * (1 - errors.mean()) / len(made.table_.X_test))),
        "forecast": float(line.test_error[-1]),
        "stated": float(max(line.get("test_loss_tolerance", np.zeros(1)))),
        "seconds": seconds,
    }


def page(cases: list[dict]) -> str:
    lines = [
        "# Which loss for classes?",
        "",
        "Made by `python benchmarks/loss_for_classes.py`. Linear models of the standardised columns, about 1 000",
        "training rows, shuffled epochs, batch 32; the step size that the advice finds best within 10 epochs, trained",
        f"{SEEDS} times. Error: share of the held-out rows misclassified at the end; +- the standard error of the mean",
        "over runs; *luck*: the standard error that the number of held-out rows leaves, the same for both losses.",
        "*Stated*: the closure's own relative error of the held-out loss. Seconds: of one core, compilation included.",
        "",
        "| set | classes | loss | step size | error, measured | error, forecast | luck | stated | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for c in cases:
        lines.append(
            f"| {c['set']} | {c['classes']} | {c['loss']} | {c['step_size']:.3g} "
            f"| {c['error']:.4f} +- {c['stderr']:.4f} | {c['forecast']:.4f} | {c['luck']:.4f} "
            f"| {100 * c['stated']:.1f} % | {c['seconds']:.0f} |"
        )
    square = {c["set"]: c for c in cases if c["loss"] == "square"}
    others = [c for c in cases if c["loss"] != "square" and c["set"] in square]
    if others:
        ahead = sum(c["error"] < square[c["set"]]["error"] for c in others)
        gain = np.median([c["error"] - square[c["set"]]["error"] for c in others])
        times = np.median([c["seconds"] / square[c["set"]]["seconds"] for c in others])
        lines += [
            "",
            f"The logistic or softmax loss has the lower error on {ahead} of {len(others)} sets; median difference",
            f"{100 * gain:+.2f} percentage points. Its forecast takes {times:.1f} times as long (median).",
        ]
    missing = [name for name in SETS if name not in {c["set"] for c in cases if c["loss"] != "square"}]
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RIRON_DATA"), help="folder of NPZ files")
    parser.add_argument("--results", type=Path, default=Path("loss-for-classes.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/loss-for-classes.md"))
    options = parser.parse_args()
    use_persistent_cache()
    done = [json.loads(row) for row in options.results.read_text().splitlines()] if options.results.exists() else []
    for name in SETS:
        loaded = load(name, options.data and Path(options.data))
        if loaded is None:
            continue
        two = len(np.unique(loaded[1])) == 2
        for loss in ("square", "logistic" if two else "softmax"):
            if not any(c["set"] == name and c["loss"] == loss for c in done):
                done.append(case(name, loss, *loaded))
                with options.results.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
                print(done[-1], flush=True)
    options.page.write_text(page(sorted(done, key=lambda c: SETS.index(c["set"]))))


if __name__ == "__main__":
    main()
