"""Langevin sampling against others: steps per second, and error of the posterior per gradient evaluation.

    python benchmarks/langevin_speed.py speed [--rounds 8] [--steps 20000] [--sgmcmcjax /path/to/env/bin/python]
    python benchmarks/langevin_speed.py error

speed: SGLD and SGLD with control variates on one logistic regression (n = 100 000, d = 50, batch 100, float32, one
thread), riron through `simulate`, blackjax inside one `lax.scan`; the contenders take turns within a round, and the
ratios are those of a round. sgmcmcjax needs an environment of its own (jax 0.4.20, numpy < 2).
error: posterior mean and standard deviation against a long NUTS run (n = 10 000, d = 50), at equal numbers of
per-sample gradients, adaptation of NUTS included.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.sgmcmc.gradients import control_variates, grad_estimator

from riron.dynamics import Blocks, Minibatch, cv_sgld, mala, mode, sgld, svrg_ld
from riron.lab.running import simulate
from riron.problems import Chains, from_arrays

BATCH, D = 100, 50
STEP_SIZE = 0.05  # of the mean loss; blackjax and sgmcmcjax take it over n


def table(n, seed=0):
    """Standard normal rows, labels from a logistic model of unit length, in float32."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D))
    w = rng.normal(size=D) / D**0.5
    y = np.where(rng.random(n) < 1 / (1 + np.exp(-X @ w)), 1.0, -1.0)
    return X.astype(np.float32), y.astype(np.float32)


def logprior(x):
    return -jnp.sum(x**2) / 2


def loglikelihood(x, row):
    return -jax.nn.softplus(-row[1] * (row[0] @ x))


def riron_runs(X, y, centre, steps):
    n = len(X)
    problem = from_arrays(X, y, loss="logistic", ridge=1 / n)
    shared = {"step_size": STEP_SIZE, "temperature": 1 / n}
    chains = {}
    for suffix, rows in {"": Minibatch(BATCH), " blocks": Blocks(BATCH)}.items():
        chains[f"SGLD{suffix}"] = sgld(**shared, batch=rows)
        chains[f"CV{suffix}"] = cv_sgld(**shared, batch=rows, centre=centre)
    run = lambda dynamics: lambda seed: simulate(problem, dynamics, record=[steps], seeds=1, seed=seed)
    return {name: run(dynamics) for name, dynamics in chains.items()}


def blackjax_runs(X, y, centre, steps):
    n, data = len(X), (jnp.asarray(X), jnp.asarray(y))
    plain = grad_estimator(logprior, loglikelihood, n)
    estimators = {"SGLD": plain, "CV": control_variates(plain, centre, data)}

    def build(estimator):
        kernel = blackjax.sgld(estimator)

        @jax.jit
        def run(key, x, X, y):
            def one(x, key):
                for_rows, for_noise = jax.random.split(key)
                rows = jax.random.randint(for_rows, (BATCH,), 0, n)
                return kernel.step(for_noise, x, (X[rows], y[rows]), STEP_SIZE / n), None

            return jax.lax.scan(one, x, jax.random.split(key, steps))[0]

        return lambda seed: run(jax.random.key(seed), jnp.zeros(D), *data).block_until_ready()

    return {name: build(estimator) for name, estimator in estimators.items()}


def timed(run):
    """Processor and wall seconds of one run."""

    def measure(seed):
        cpu, wall = time.process_time(), time.perf_counter()
        run(seed)
        return time.process_time() - cpu, time.perf_counter() - wall

    return measure


class Elsewhere:
    """sgmcmcjax in another environment, asked for one run at a time through a pipe."""

    def __init__(self, python, X, y, centre, steps):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "table.npz"
        np.savez(path, X=X, y=y, centre=centre)
        script = Path(__file__).with_name("langevin_speed_sgmcmcjax.py")
        arguments = [python, str(script), str(path), str(steps), str(BATCH), str(STEP_SIZE)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True)

    def run(self, name):
        def measure(seed):
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            print(name, seed, file=self.process.stdin, flush=True)
            cpu, wall = map(float, self.process.stdout.readline().split())
            return cpu, wall

        return measure


def speed(rounds, steps, sgmcmcjax):
    X, y = table(100_000)
    problem = from_arrays(X, y, loss="logistic", ridge=1 / len(X))
    centre = mode(problem.objective(problem.data), jnp.zeros(D), tolerance=1e-4)
    contenders = {("riron", name): timed(run) for name, run in riron_runs(X, y, centre, steps).items()}
    contenders |= {("blackjax", name): timed(run) for name, run in blackjax_runs(X, y, centre, steps).items()}
    if sgmcmcjax:
        other = Elsewhere(sgmcmcjax, X, y, np.asarray(centre), steps)
        contenders |= {("sgmcmcjax", name): other.run(name) for name in ("SGLD", "CV")}
    for measure in contenders.values():
        measure(0)  # compiles
    seconds = {key: [] for key in contenders}
    for r in range(rounds):
        for key, measure in contenders.items():
            seconds[key].append(measure(r + 1))
    times = {key: np.array(values) for key, values in seconds.items()}
    print(f"{rounds} rounds of {steps} steps; thousands of steps per processor second (best, median), and per second")
    for (package, name), t in times.items():
        best, middle, wall = steps / t[:, 0].min(), steps / np.median(t[:, 0]), steps / np.median(t[:, 1])
        print(f"| {package} | {name} | {best / 1e3:.1f} | {middle / 1e3:.1f} | {wall / 1e3:.1f} |")
    for package in ("blackjax", "sgmcmcjax"):
        for name in ("SGLD", "CV", "SGLD blocks", "CV blocks"):
            if (package, name.split()[0]) in times:
                cpu, wall = (times[package, name.split()[0]] / times["riron", name]).T
                error = 1.25 * cpu.std(ddof=1) / np.sqrt(rounds)
                print(
                    f"riron over {package}, {name}: {np.median(cpu):.2f} +- {error:.2f} by processor time, "
                    f"{np.median(wall):.2f} by the clock (paired medians)"
                )


def nuts(X, y, start, draws, warmup, seed=1):
    """Draws, and the passes over the data that they and the adaptation took."""

    def logdensity(x):
        return logprior(x) - jnp.sum(jax.nn.softplus(-y * (X @ x)))

    key = jax.random.key(seed)
    adapt = blackjax.window_adaptation(blackjax.nuts, logdensity)
    (state, tuned), info = adapt.run(key, start, num_steps=warmup)
    kernel = blackjax.nuts(logdensity, **tuned)

    @jax.jit
    def run(state, keys):
        def one(state, key):
            state, info = kernel.step(key, state)
            return state, (state.position, info.num_integration_steps)

        return jax.lax.scan(one, state, keys)[1]

    positions, steps = run(state, jax.random.split(key, draws))
    before = int(np.sum(info.info.num_integration_steps))
    return np.asarray(positions, np.float64), before + np.cumsum(np.asarray(steps))


def errors(positions, mean, sd):
    """Rms over coordinates of the error of the mean in standard deviations, and of the log of the sd."""
    away = (positions.mean(axis=0) - mean) / sd
    ratio = np.log(positions.std(axis=0, ddof=1) / sd)
    return np.sqrt((away**2).mean()), np.sqrt((ratio**2).mean())


def error(only):
    n = 10_000
    X, y = table(n)
    problem = from_arrays(X, y, loss="logistic", ridge=1 / n)
    start = mode(problem.objective(problem.data), jnp.zeros(D), tolerance=1e-4)
    truth, passes = nuts(jnp.asarray(X), jnp.asarray(y), start, 4000, 500, seed=9)
    mean, sd = truth.mean(axis=0), truth.std(axis=0, ddof=1)
    print(f"reference: {len(truth)} draws of NUTS, {passes[-1]} passes")
    budgets = (30, 300, 3000)
    root = round(n**0.5)
    shared = lambda h: {"step_size": h, "temperature": 1 / n}
    rows = Minibatch(BATCH)
    contenders = {
        "SGLD": (lambda h: sgld(**shared(h), batch=rows), (0.02, 0.1, 0.5), n // BATCH),
        "CV-SGLD": (lambda h: cv_sgld(**shared(h), batch=rows, centre=start), (0.1, 0.5, 2.0), n // BATCH),
        "SVRG-LD": (lambda h: svrg_ld(**shared(h), batch=Minibatch(root), period=root), (0.1, 0.5, 2.0), n // 300),
        "MALA": (lambda h: mala(**shared(h)), (0.5, 1.0, 2.0), 1),
    }
    print("| sampler | step size | " + " | ".join(f"{b} passes: mean, sd" for b in budgets) + " |")
    for name, (make, step_sizes, per_pass) in contenders.items():
        if only and name != only:
            continue
        centred = from_arrays(X, y, loss="logistic", ridge=1 / n)
        for h in step_sizes:
            record = np.arange(0, budgets[-1] * per_pass + 1, max(budgets[-1] * per_pass // 4000, 1))
            runs = simulate(Chains(started(centred, start)), make(h), record=record, seeds=4)
            spent = runs.gradient_evaluations.values[0] / n
            cells = []
            for budget in budgets:
                kept = runs.position.values[:, (spent <= budget) & (record > 0)].astype(np.float64)
                found = (
                    np.mean([errors(chain, mean, sd) for chain in kept], axis=0) if kept.shape[1] > 4 else (np.nan,) * 2
                )
                cells.append("{:.3f}, {:.3f}".format(*found))
            print(f"| {name} | {h} | " + " | ".join(cells) + " |", flush=True)
    if only not in (None, "NUTS"):
        return
    cells = []
    for budget, warmup in zip(budgets, (4, 20, 100), strict=True):
        found = []
        for seed in range(4):
            positions, passes = nuts(jnp.asarray(X), jnp.asarray(y), start, budget // 5, warmup, seed=seed)
            kept = positions[passes <= budget]
            if len(kept) > 4:
                found.append(errors(kept, mean, sd))
        cells.append("{:.3f}, {:.3f}".format(*np.mean(found, axis=0)) if found else "-")
    print("| NUTS | adapted | " + " | ".join(cells) + " |")


def started(problem, start):
    """The same problem, started at the mode."""
    import equinox as eqx

    from riron.models.linear import Linear

    class AtMode(Linear):
        at: jax.Array = eqx.field(default=None)

        def init(self, key):
            return self.at

    return eqx.tree_at(lambda p: p.model, problem, AtMode(problem.model.inputs, None, start))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "error"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--only", help="one sampler of the error table")
    parser.add_argument("--sgmcmcjax", help="python of an environment with sgmcmcjax")
    asked = parser.parse_args()
    if asked.what == "speed":
        speed(asked.rounds, asked.steps, asked.sgmcmcjax)
    else:
        error(asked.only)
