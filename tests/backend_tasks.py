"""Tasks for test_backends, importable by workers; run as a script, a sweep that may be killed at any moment."""

import os
import signal
import sys
import time

import numpy as np

from riron.lab.backends import run_tasks
from riron.lab.store import Store, address


def square(task):
    """Two arrays that depend on the task only; slow enough to be interrupted."""
    time.sleep(task.get("sleep", 0.0))
    numbers = np.random.default_rng(task["k"]).normal(size=50)
    return {"square": numbers**2, "mean": np.array(numbers.mean())}, {"k": task["k"]}


def troublesome(task):
    """Task 2 kills its process, task 5 leaves by os._exit, task 7 raises, the others are fine."""
    if task["k"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if task["k"] == 5:
        os._exit(3)
    if task["k"] == 7:
        raise ValueError("seven is odd")
    return square(task)


def threads(task):
    return {"threads": np.array([int(os.environ["OMP_NUM_THREADS"]), int("numpy" in sys.modules)])}


def sweep(count, **extra):
    return {address({"k": k, **extra}): {"k": k, **extra} for k in range(count)}


if __name__ == "__main__":
    # A shell that starts the tests in the background has its children ignore Ctrl-C; a terminal's do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    summary = run_tasks(square, sweep(40, sleep=0.03), store=Store(sys.argv[1]), workers=2)
    print(summary)
    sys.exit(130 if summary.stopped else 0)
