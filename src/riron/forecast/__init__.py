"""Theory on your own data, before you train. Every public name stands here once and is loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "advice": ["Advice", "advise"],
        "command": ["forecast_table"],
        "curves": ["sgd", "sgd_many"],
        "edges": ["growth_factor", "stability_edge"],
        "features": ["Features", "make_features"],
        "tables.reading": ["read_table"],
        "sample_size": ["learning_curve"],
        "tables.table": ["Table"],
        "verification": ["Verification", "verify"],
    },
)
