"""The PyTorch room does without JAX: it starts without."""

import pkgutil
import subprocess
import sys

import pytest

pytest.importorskip("torch")


def test_no_module_of_the_room_loads_jax():
    import riron.torch

    names = [m.name for m in pkgutil.walk_packages(riron.torch.__path__, "riron.torch.")]
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
print("jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stdout + done.stderr[-2000:]
