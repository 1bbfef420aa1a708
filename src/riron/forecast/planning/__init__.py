"""Width, step size, batch and number of steps from the accuracy that is wanted, before anything is trained."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["Calibration", "calibrate"],
        "plans": ["LangevinPlan", "MeanFieldPlan"],
        "planning": ["plan"],
        "trial": ["Outcome"],
    },
)
