"""Networks through their tangent features: `tangent`, and reading JAX networks, PyTorch networks and Python files."""
