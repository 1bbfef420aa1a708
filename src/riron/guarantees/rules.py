"""When a run of the tempered sampler must not be believed: thresholds shared by the certificate and the dual steps."""

from typing import Any

import numpy as np

from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem
from .gibbs import GibbsSample

FEWEST_GROUPS = 8
LARGEST_CV, LEAST_ESS, LEAST_ACCEPTANCE = 0.3, 0.3, 0.15


def unfit(sample: GibbsSample) -> dict[str, str]:
    """Kind of fault -> sentence; empty if the run may be used."""
    cloud, found = sample.cloud, {}
    if not (np.isfinite(cloud.log_z).all() and np.isfinite(sample.means).all()):
        return {"finite": "the sampler gave numbers that are not finite"}
    if cloud.log_weights_cv > LARGEST_CV:
        found["cv"] = f"the groups' weights scatter by {cloud.log_weights_cv:.2f} (over {LARGEST_CV})"
    if cloud.ess.min() < LEAST_ESS:
        found["ladder"] = f"the effective sample size fell to {cloud.ess.min():.2f} (below {LEAST_ESS})"
    if cloud.acceptance.min() < LEAST_ACCEPTANCE:
        found["ladder"] = f"the acceptance fell to {cloud.acceptance.min():.2f} (below {LEAST_ACCEPTANCE})"
    return found


def check_gibbs_run(problem: Any, z: np.ndarray, groups: int, particles: int, moves: int) -> None:
    """InputError unless a certificate or a dual step can be asked for with these."""
    if not isinstance(problem, MeanFieldProblem):
        raise InputError(f"problem is a {type(problem).__name__}", do="pass a MeanFieldProblem")
    if len(z) != len(problem.y):
        raise InputError(
            f"predictions has {len(z)} values and the problem {len(problem.y)} rows",
            do="pass the network's predictions at the training rows",
        )
    for name, value, least in (("groups", groups, FEWEST_GROUPS), ("particles", particles, 50), ("moves", moves, 1)):
        if isinstance(value, bool) or int(value) != value or value < least:
            raise InputError(f"{name}={value} must be a whole number >= {least}")
