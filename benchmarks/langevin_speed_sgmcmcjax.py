"""The part of `langevin_speed.py` that runs in an environment of its own: pip install jax==0.4.20 jaxlib==0.4.20
"numpy<2" "scipy<1.12" sgmcmcjax. Reads a kernel's name and a seed a line, and answers processor and wall seconds."""

import os
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
from sgmcmcjax.kernels import build_sgld_kernel, build_sgldCV_kernel

path, steps, batch, step_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
table = np.load(path)
X, y, centre = (jnp.asarray(table[name]) for name in ("X", "y", "centre"))


def logprior(x):
    return -jnp.sum(x**2) / 2


def loglikelihood(x, row, label):
    return -jax.nn.softplus(-label * (row @ x))


told = (step_size / len(X), loglikelihood, logprior, (X, y), batch)
kernels = {"SGLD": build_sgld_kernel(*told), "CV": build_sgldCV_kernel(*told, centre)}


def build(init, kernel, read):
    @jax.jit
    def run(key):
        state = init(key, jnp.zeros(X.shape[1]))

        def one(state, told):
            i, key = told
            return kernel(i, key, state), None

        return read(jax.lax.scan(one, state, (jnp.arange(steps), jax.random.split(key, steps)))[0])

    return run


runs = {name: build(*kernel) for name, kernel in kernels.items()}
for line in sys.stdin:
    name, seed = line.split()
    cpu, wall = time.process_time(), time.perf_counter()
    runs[name](jax.random.PRNGKey(int(seed))).block_until_ready()
    print(time.process_time() - cpu, time.perf_counter() - wall, flush=True)
