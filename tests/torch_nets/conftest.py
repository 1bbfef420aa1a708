"""These tests need the extra `torch`."""

import importlib.util

if any(importlib.util.find_spec(name) is None for name in ("torch", "torch_pruning", "safetensors")):
    collect_ignore_glob = ["test_*.py"]
