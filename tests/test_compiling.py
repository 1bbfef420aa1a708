"""The persistent compilation cache mends itself, and compilations are counted."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riron.lab import compiling
from riron.lab.compiling import count_compilations

CACHE = """
import os, sys, warnings
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from riron.lab.compiling import count_compilations, use_persistent_cache

def first(x):
    return jnp.sin(x).sum()

def second(x):
    return jnp.cos(x).sum()

def compiled():
    jax.clear_caches()
    with count_compilations() as seen:
        for function in (first, second):
            jax.jit(function)(np.ones(3, np.float32)).block_until_ready()
    print(seen.count, seen.cached)

compiled()
folder = use_persistent_cache()
compiled()
compiled()
entries = sorted(folder.glob("*-cache"))
print([path.name.split("-")[0] for path in entries])
entries[0].write_bytes(entries[0].read_bytes()[:40])
compiled()
print(entries[1].exists())
compiled()
warnings.warn("another warning passes through")
folder.rename(folder.with_name("moved"))
folder.touch()
jax.config.update("jax_compilation_cache_dir", str(folder / "below"))
jax.jit(lambda x: x + 2)(1.0)
print(jax.config.jax_enable_compilation_cache)
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_cache_is_used_mended_and_turned_off(tmp_path):
    out, err = run(CACHE, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cache"))
    cold, stored, warm, names, mended, survivor, again, enabled = out
    assert (cold, stored, warm) == ("2 0", "2 0", "2 2")
    assert names == "['jit_first', 'jit_second']"
    assert (mended, survivor, again) == ("2 1", "True", "2 2")
    assert enabled == "False"
    assert [line for line in err if line.startswith("note: ")] == [
        f"note: the compilation cache '{tmp_path}/cache' held a damaged entry, which was removed",
        f"note: the compilation cache '{tmp_path}/cache/below' could not be written and is off for this run",
    ]
    assert any("another warning passes through" in line for line in err)
    assert not any("persistent compilation cache entry" in line for line in err)


def test_an_unwritable_folder_turns_the_cache_off(tmp_path):
    (tmp_path / "file").touch()
    code = (
        "import jax; from riron.lab.compiling import use_persistent_cache; print(use_persistent_cache());"
        "jax.jit(lambda x: x + 1)(1.0)"
    )
    out, err = run(code, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "file" / "below"))
    assert out == ["None"]
    assert err == [f"note: the compilation cache '{tmp_path}/file/below' cannot be written; every run compiles anew"]


def test_the_default_folder_names_the_version(tmp_path):
    code = "from riron.lab.compiling import use_persistent_cache; print(use_persistent_cache())"
    out, err = run(code, XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR="")
    assert err == []
    assert out[0].endswith(f"jax-{jax.__version__}")
    assert "riron" in out[0]


def test_compilations_are_counted_once_for_equal_shapes():
    function = jax.jit(lambda x: x * 3)
    with count_compilations() as outer:
        function(jnp.float32(1))
        with count_compilations() as inner:
            function(jnp.float32(2))
        function(np.ones(3, np.float32))
    function(np.ones(4, np.float32))
    assert inner.count == 0
    assert outer.count >= 2


@pytest.mark.parametrize("x64", [True, False])
def test_workers_get_this_processs_precision(x64):
    with jax.enable_x64(x64):
        assert compiling.worker_environment()["JAX_ENABLE_X64"] == str(int(x64))
