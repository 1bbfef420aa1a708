"""PyTorch networks: repair what was cut, compress, measure, guarantee. Needs the extra `torch`; loaded lazily."""

from typing import Any

import lazy_loader

from ..errors import InputError

_load, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compressed_model": ["CompressedModel", "Report", "load"],
        "compressing": ["compress"],
        "factors.decomposing": ["decompose"],
        "generalisation.bounding": ["bounds"],
        "generalisation.report": ["Bounds"],
        "laboratory": ["predict", "train_mlps"],
        "reconstructing": ["reconstruct"],
        "spectral.measuring": ["spectra"],
        "spectral.result": ["Spectra"],
        "suggest_widths": ["SuggestedWidths", "suggest_widths"],
    },
)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("riron"):
            raise
        raise InputError(f"riron.torch needs {missing.name}", do='pip install "riron[torch]"') from None
