"""What can be said of one trained object: a number with its assumptions and its confidence, never a bare float."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Guarantee"],
        "disagreement": ["Disagreement", "disagreement", "disagreement_limit"],
        "dual_newton": ["DualNewton", "dual_newton"],
        "generalisation": ["Bound"],
        "loss_floor": ["LossFloor", "loss_floor"],
        "missing_neurons": ["Improved", "improve"],
        "optimality_gap": ["Certificate", "optimality_gap"],
        "relu_networks": ["ReLUNetwork", "read_network"],
    },
)
