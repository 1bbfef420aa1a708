"""The problem as the theory sees it: one sample's loss and a few covariances, the dimension gone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...errors import InputError
from ...problems.teacher_student import TeacherStudent


def reduced(problem: TeacherStudent) -> TeacherStudent:
    """The same law of pre-activations, loss and start with a teacher in K dimensions, in float64.

    Problems that differ in d alone then share one compilation.

    Raises: InputError for another kind of problem, or features that are not isotropic.
    """
    if not isinstance(problem, TeacherStudent):
        raise InputError(
            f"dynamical mean-field theory needs a TeacherStudent problem and got {type(problem).__name__}",
            why="it works on the few pre-activations of a teacher and a student",
            do="use riron.problems.TeacherStudent",
        )
    if np.ptp(np.asarray(problem.spectrum)) > 0:
        raise InputError(
            "the features of the problem have variances that differ",
            why="the theory is written for features of equal variance",
            do="leave out `spectrum`",
        )
    double = lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64)
    arrays, functions = eqx.partition(problem, eqx.is_array)
    problem = eqx.combine(jax.tree.map(double, arrays), functions)
    gram = np.asarray(problem.teacher_gram)
    K = len(gram)
    teacher = double(np.linalg.cholesky(gram).T * K**0.5)  # teacher^T teacher / K = gram
    return eqx.tree_at(lambda p: (p.teacher, p.spectrum), problem, (teacher, jnp.ones(K, jnp.float64)))


def start_covariance(problem: TeacherStudent) -> np.ndarray:
    """(m+K, m+K) covariance of the student's and the teacher's pre-activations at the start."""
    q = np.asarray(problem.start_overlap)
    return np.block([[np.asarray(problem.start_gram), q], [q.T, np.asarray(problem.teacher_gram)]])
