"""Time of one step of mean-field Langevin dynamics, against the two matrix products that it cannot avoid and PyTorch.

    python benchmarks/mfld_speed.py [--width 10000] [--rows 10000] [--features 50] [--rounds 5] [--chunks] [--no-torch]

A step needs the products W X' (outputs) and G X (gradients), 4 N n d operations. All contenders are timed in turn,
round after round, and the best round of each counts. On a busy machine only ratios mean something. `--chunks` times
several sizes of the pieces in which the full gradient is taken.
"""

import argparse
import time
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

import riron.problems.mean_field as room
from riron.dynamics.mean_field_langevin import mfld
from riron.models.neurons import to_neuron
from riron.problems import MeanFieldProblem


def ours(problem, W):
    dynamics, objective = mfld(problem, step_size=0.1), problem.objective(problem.data)
    state = dynamics.init(objective, W)
    shape = jax.eval_shape(lambda: W)

    # The data are arguments: a table that a compiled function closes over is copied into it.
    @jax.jit
    def step(objective, state, key, t):
        draw = dynamics.draw(key, objective, shape)
        return dynamics.step(objective, state, draw, t)[0]

    keys = iter(jax.random.split(jax.random.key(1), 1000))

    def run():
        nonlocal state
        state = jax.block_until_ready(step(objective, state, next(keys), jnp.asarray(0)))

    return run


def products(X, W):
    """W X' and G X in the same chunks of rows, and nothing else."""
    chunk = max(room.CHUNK // len(W), 1)
    pieces = -(-len(X) // chunk)
    padded = jnp.zeros((pieces * chunk, X.shape[1]), X.dtype).at[: len(X)].set(X).reshape(pieces, chunk, -1)

    @jax.jit
    def both(pieces, W):
        return jax.lax.scan(lambda total, P: (total + (W @ P.T) @ P, None), jnp.zeros_like(W), pieces)[0]

    return lambda: jax.block_until_ready(both(padded, W))


def torch_loop(X, y, W, lam1, lam2, eta):
    """MFLD as one would write it in PyTorch: autograd through the mean of the neurons."""
    import torch

    X, y = torch.tensor(np.asarray(X)), torch.tensor(np.asarray(y))
    W = torch.tensor(np.asarray(W), requires_grad=True)

    def run():
        loss = 0.5 * ((torch.tanh(W @ X.T).mean(0) - y) ** 2).mean() + lam1 * (W**2).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, W)
        with torch.no_grad():
            W.sub_(eta * len(W) * gradient).add_((2 * eta * lam2) ** 0.5 * torch.randn_like(W))

    return run


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("width", 10_000), ("rows", 10_000), ("features", 50), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--chunks", action="store_true")
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.normal(size=(options.rows, options.features)) / options.features**0.5
    y = np.sin(X.sum(axis=1))
    settings = {"neuron": to_neuron("tanh", bias=False), "lam1": 0.1, "lam2": 0.1, "width": options.width}
    problem = MeanFieldProblem(X, y, **settings)
    W = problem.initial(jax.random.key(0))
    print(f"{jax.devices()[0]}; N={options.width}, n={options.rows}, d={options.features}, float32")
    sizes = [2**k for k in (16, 17, 18, 19, 20, 22)] if options.chunks else [room.CHUNK]
    contenders = {}
    for size in sizes:
        room.CHUNK = size
        for name, run in (("riron", ours(problem, W)), ("two products", products(problem.X, W))):
            run()  # compiles while CHUNK holds this size
            contenders[name, size] = run
    if find_spec("torch") and not options.no_torch:
        contenders["PyTorch", 0] = torch_loop(problem.X, problem.y, W, 0.1, 0.1, 0.1)
    best = dict.fromkeys(contenders, np.inf)
    for _ in range(options.rounds):
        for name, run in contenders.items():
            begun = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begun)
    floor = min(seconds for (name, _), seconds in best.items() if name == "two products")
    for (name, size), seconds in best.items():
        ratio = f"{seconds / floor:.2f} of the fastest two products"
        print(f"{name:14s} chunk {size:9d}: {seconds * 1e3:8.1f} ms a step, {ratio}")


if __name__ == "__main__":
    main()
