"""Speed of dynamical mean-field theory and of the one-pass equations, as ratios within one run.

    python benchmarks/dmft_speed.py            # the numbers of docs/dmft-speed.md

Beside `riron.theory.dmft.solve`: a plain NumPy sweep, and the fixed-point iteration of the whole grid that published
codes use (`dmft_rivals.py`), all on the same problem and with the same number of paths. Seconds are processor time of
this process, the best of a few rounds, without compilation.
"""

import argparse
import time
import warnings

import diffrax  # noqa: F401  its import is not part of any time
import jax
import jax.numpy as jnp
import numpy as np
from dmft_rivals import Problem, grid, sweep

from riron.dynamics import sgd
from riron.lab.running import simulate
from riron.problems import OnePass, TeacherStudent
from riron.theory.dmft import solve
from riron.theory.online_sgd import as_real, integrate, make_flow


def steep(s):
    return jnp.tanh(2 * s[0])


def residual(r, s, z):
    return np.tanh(r) - np.tanh(2 * s) - 0.3 * z


TANH = TeacherStudent(50, activation="tanh", link=steep, label_noise=0.09)
LINEAR = TeacherStudent(50, label_noise=0.09)


def plain(dt, b):
    """The tanh problem in NumPy."""
    slope = lambda r: 1 - np.tanh(r) ** 2
    return Problem(
        lambda r, s, z: residual(r, s, z) ** 2 / 2,
        lambda r, s, z: residual(r, s, z) * slope(r),
        lambda r, s, z: slope(r) * (slope(r) - 2 * np.tanh(r) * residual(r, s, z)),
        2.0, dt, b,
    )  # fmt: skip


def least(function, rounds):
    """Least processor time and wall time of a few calls, after one that compiles; and the last result."""
    result, processor, wall = function(), [], []
    for _ in range(rounds):
        begun = time.process_time(), time.perf_counter()
        result = function()
        processor.append(time.process_time() - begun[0])
        wall.append(time.perf_counter() - begun[1])
    return min(processor), min(wall), result


def horizons(rounds):
    """Seconds against the number of steps: the exponent is that of a straight line in logarithms."""
    steps, seconds = np.array([1000, 3000, 10_000]), []
    for T in steps:
        told = {"delta": 2.0, "horizon": T * 0.1, "dt": 0.1, "batch_fraction": 0.1, "record": [T * 0.1]}
        processor, wall, line = least(
            lambda told=told: solve(LINEAR, **told, paths=2000, groups=2, blocks=(8, 4)), rounds
        )
        seconds.append(processor)
        print(f"| {T} | {processor:.2f} | {wall:.2f} | {line.attrs['blocks']} |")
    print(f"\nexponent in the horizon: {np.polyfit(np.log(steps), np.log(seconds), 1)[0]:.2f}\n")


def shapes(rounds):
    """Seconds against paths and units."""
    for paths in (4096, 16_384, 65_536):
        for m in (1, 2, 4):
            problem = TeacherStudent(50, activation="tanh", link="tanh", second=np.ones(m), label_noise=0.09)
            told = {"delta": 2.0, "horizon": 10.0, "dt": 0.1, "batch_fraction": 0.1, "record": [10.0]}
            processor, _, _ = least(lambda p=problem, t=told, n=paths: solve(p, **t, paths=n, groups=8), rounds)
            print(f"| {paths} | {m} | {processor:.2f} |")
    print()


def against_numpy(rounds):
    paths, T = 20_000, 200
    told = {"delta": 2.0, "horizon": 20.0, "dt": 0.1, "batch_fraction": 0.1, "record": [20.0], "blocks": (8, 6)}
    ours, wall, line = least(lambda: solve(TANH, **told, paths=paths, groups=8), rounds)
    theirs, _, found = least(lambda: sweep(plain(0.1, 0.1), T, paths), rounds)
    print(f"200 steps, 20 000 paths: riron {ours:.2f} s ({wall:.2f} s on the wall), NumPy {theirs:.2f} s, ", end="")
    print(f"ratio {theirs / ours:.2f}; train loss {float(line.train_loss[0]):.4f}, {found[0, -1]:.4f}\n")


def against_iteration(rounds):
    """Both with 4096 paths; the accuracy of each is its scatter over other random numbers."""
    for T in (50, 100, 200):
        told = {"delta": 2.0, "horizon": T * 0.1, "dt": 0.1, "batch_fraction": 0.1, "record": [T * 0.1]}
        one = lambda seed=0, told=told: solve(TANH, **told, paths=4096, groups=2, key=seed)
        ours, _, _ = least(one, rounds)
        begun = time.process_time()
        found, used = grid(plain(0.1, 0.1), T, 4096)
        theirs = time.process_time() - begun
        lines = [float(one(k).train_loss[0]) for k in range(4)]
        others = [found[0, -1], *(grid(plain(0.1, 0.1), T, 4096, seed=k)[0][0, -1] for k in (1, 2) if T < 200)]
        print(
            f"| {T} | {ours:.3f} | {theirs:.2f} | {used} | {theirs / ours:.0f} | {np.mean(lines):.4f} ± "
            f"{np.std(lines, ddof=1):.4f} | " + ", ".join(f"{x:.4f}" for x in others) + " |"
        )
    print()


def committee(m, d=400):
    eye = np.eye(m)
    return TeacherStudent(
        d, activation="erf", link="erf", second=np.ones(m), teacher_gram=eye, start_gram=0.5 * eye,
        overlap=0.1 * eye + 0.02, label_noise=0.01,
    )  # fmt: skip


def one_pass(rounds):
    with jax.enable_x64(True):
        for m in (2, 10):
            flow, _ = make_flow(committee(m), 0.5, None, "auto")
            start = flow.problem.start_gram[None], flow.problem.start_overlap[None]
            times = as_real(np.linspace(0, 20, 21))
            run = lambda flow=flow, start=start, t=times: jax.block_until_ready(integrate(flow, *start, t, 1e-8))
            _, wall, _ = least(run, 5 * rounds)
            print(f"one-pass equations, K = M = {m}, t = 20 at 1e-8: {1e3 * wall:.2f} ms")


def sgd_committee(seeds=16, steps=2000, d=1000):
    problem, record = OnePass(committee(2, d)), np.array([steps])
    run = lambda: simulate(problem, sgd(step_size=0.5), record=record, seeds=seeds)
    processor, _, _ = least(run, 1)
    print(f"one-pass SGD of two units at d = {d}: {1e6 * processor / seeds / steps:.1f} us a seed-step")


def main():
    known = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known.add_argument("--rounds", type=int, default=3)
    rounds = known.parse_args().rounds
    warnings.simplefilter("ignore")
    print("| steps | processor s | wall s | blocks |\n|---|---|---|---|")
    horizons(rounds)
    print("| paths | units | processor s, 100 steps |\n|---|---|---|")
    shapes(rounds)
    against_numpy(rounds)
    print("| steps | riron s | iteration s | rounds | ratio | riron | iteration |\n|---|---|---|---|---|---|---|")
    against_iteration(rounds)
    one_pass(rounds)
    sgd_committee()


if __name__ == "__main__":
    main()
