"""Theory on your own data, before you train. Every public name stands here once and is loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "advising.advice": ["Advice", "advise"],
        "advising.schedule_files": ["read_schedule", "write_schedule"],
        "advising.schedules": ["Schedule", "best_schedule"],
        "breaking_rows": ["breaking_rows"],
        "command": ["forecast_table"],
        "curves": ["sgd", "sgd_many"],
        "edges": ["growth_factor", "stability_edge"],
        "features": ["Features", "make_features"],
        "forecaster": ["Forecaster"],
        "more_data.classification_error": ["classification_curve"],
        "more_data.sample_size": ["learning_curve"],
        "networks.tangent": ["kernel_drift", "tangent_features"],
        "tables.reading": ["read_table"],
        "tables.table": ["Table"],
        "verification": ["Verification", "verify"],
    },
)
