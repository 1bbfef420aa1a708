"""Chains for ArviZ: the dimension `seed` becomes `chain`, the record becomes `draw`."""

from collections.abc import Iterable
from typing import Any

import xarray as xr

from ..checks import nearest
from ..errors import InputError

STATISTICS = {
    "acceptance": "acceptance_rate",
    "log_density": "lp",
    "gradient_evaluations": "gradient_evaluations",
    "train_loss": "train_loss",
    "test_loss": "test_loss",
    "test_error": "test_error",
    "excess_risk": "excess_risk",
    "objective": "objective",
    "displacement": "displacement",
    "second_moment": "second_moment",
}


def to_arviz(runs: xr.Dataset, *, burn_in: int = 0, parameters: Iterable[str] | None = None) -> Any:
    """Recorded chains in ArviZ's form, for its summaries and plots.

    Args:
      runs: from `simulate` on `Chains(problem)`: dims (seed, record, ...).
      burn_in: records to drop at the start.
      parameters: variables of the posterior; unless given, all but losses, acceptance, counts and the like, which
        become `sample_stats` under ArviZ's names (`lp`, `acceptance_rate`).

    Returns: a DataTree with groups posterior and sample_stats, dims (chain, draw, ...).

    Raises:
      InputError: ArviZ is not installed, a sweep (choose a point first), unknown names, nothing left after burn-in.
    """
    try:
        import arviz_base
    except ImportError:
        raise InputError("to_arviz needs ArviZ", do="pip install arviz-base (or arviz >= 1)") from None
    if "point" in runs.dims:
        raise InputError("the chains of several swept points are in one Dataset", do="choose one: runs.isel(point=0)")
    records = [dim for dim in runs["gradient_evaluations"].dims if dim != "seed"]
    if "seed" not in runs.dims or len(records) != 1:
        raise InputError(f"runs has dims {tuple(map(str, runs.dims))}", do="pass what `simulate` returned")
    if not 0 <= burn_in < runs.sizes[records[0]]:
        raise InputError(
            f"burn_in={burn_in} leaves none of the {runs.sizes[records[0]]} records", do="record more, or drop fewer"
        )
    chosen = set(runs.data_vars) - set(STATISTICS) if parameters is None else set(parameters)
    for name in chosen:
        if name not in runs:
            raise InputError(f"runs has no variable '{name}'", do=nearest(str(name), map(str, runs.data_vars)))
    if not chosen:
        raise InputError("runs holds no parameters", do="simulate on Chains(problem), which records them")
    kept = runs.isel({records[0]: slice(burn_in, None)}).transpose("seed", records[0], ...)
    take = lambda names: {STATISTICS.get(str(v), str(v)): kept[v].values for v in runs.data_vars if v in names}
    dims = {name: [str(d) for d in kept[name].dims[2:]] for name in map(str, runs.data_vars)}
    groups = {"posterior": take(chosen), "sample_stats": take(set(runs.data_vars) - chosen)}
    return arviz_base.from_dict(groups, dims={STATISTICS.get(k, k): v for k, v in dims.items()})
