"""What can go wrong in a sweep, said in one sentence: losses that are not finite, steps too long, paths too few."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import InputError
from ...problems.teacher_student import TeacherStudent
from .setting import Setting
from .stability import stable_steps

DIVERGED = 1e8
FEW_PATHS = 10  # paths for each regressor
SHRINKING = 0.05  # the ridge of the regression over the variance of the noise


def check_memory(rows: int, paths: int, groups: int, compressed: bool, available: float) -> None:
    """InputError if the past (noises and kicks, `rows` of them) does not fit."""
    needed = 16.0 * rows * paths * groups
    if needed > available:
        raise InputError(
            f"the past of {rows} rows and {paths} paths in {groups} groups needs {needed / 2**30:.1f} GiB of memory "
            f"and there are {available / 2**30:.1f}",
            do="use fewer paths" if compressed else "pass blocks='auto', which compresses the past",
        )


def first_divergence(problem: TeacherStudent, points: Any, setting: Setting) -> int | None:
    """The first step at which some group has diverged, with a warning that names stable steps.

    Raises: InputError where the loss or its gradient is not finite though nothing has diverged.
    """
    loss, finite = np.asarray(points.train_loss), np.asarray(points.finite)
    lost = ~(np.abs(loss) < DIVERGED) | ~finite
    if not lost.any():
        return None
    step = int(np.argmax(lost.any(axis=0)))
    group = int(np.argmax(lost[:, step]))
    r = np.asarray(points.bad_r)[group, step]
    largest = np.sqrt(np.max(np.asarray(points.self_overlap)[group, :step], initial=1.0))
    if not finite[group, step] and np.isfinite(r).all() and np.abs(r).max() < 1e3 * largest:
        raise InputError(
            f"the loss or its gradient is not finite at step {step} for r={np.round(r, 6).tolist()}",
            do="give a loss that is finite everywhere",
        )
    warnings.warn(
        f"diverged at t={step * setting.dt:g} (step {step}); results from there on are NaN. "
        + stable_steps(problem, setting),
        stacklevel=4,
    )
    return step


def warn_of_symmetry(problem: TeacherStudent) -> None:
    """Warns of a start without overlap where teacher and its mirror image give the same labels: none ever grows."""
    if np.asarray(problem.start_overlap).any():
        return
    m, K = problem.start_overlap.shape
    nodes = problem.nodes[:256]
    s, z = nodes[:, m : m + K], nodes[:, -1]
    label = jax.vmap(problem.law.label)
    if bool(jnp.all(label(s, z) == label(-s, z))):
        warnings.warn(
            "the start has overlap 0 and labels do not tell the teacher from its mirror image: in the limit the "
            "overlap stays 0 for ever; give the problem an `overlap` of the order of 1/sqrt(d)",
            stacklevel=3,
        )


def warn_of_few_paths(points: Any, setting: Setting, paths: int, regressors: int) -> None:
    """Warns where the response is fitted with too few paths, or shrunk towards 0 by the ridge of its regression."""
    if paths < FEW_PATHS * regressors:
        warnings.warn(
            f"{paths} paths in a group are few for {regressors} regressors: expect a bias of the order of "
            f"{regressors / paths:.0%}; use fewer groups or at least {FEW_PATHS * regressors} paths in each",
            stacklevel=4,
        )
    if setting.kernel == "none":
        return
    shrinking = float(np.nanmedian(np.asarray(points.shrinking)[:, 1:]))
    if shrinking > SHRINKING:
        warnings.warn(
            f"the ridge of the regression is {shrinking:.1%} of the noise's variance: the response is shrunk; "
            "use more paths in a group",
            stacklevel=4,
        )
