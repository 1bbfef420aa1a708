"""What no line of a teacher-student theory may break."""

import numpy as np


def check_overlaps(line, problem):
    """The same line; Cauchy and Schwarz, q q^T <= rho Q, holds at every time."""
    Q, q, rho = (np.asarray(a, float) for a in (line.self_overlap, line.overlap, problem.teacher_gram))
    if problem.plain:
        Q, q = Q[..., None, None], q[..., None, None]
    rest = Q - q @ np.linalg.solve(rho, np.swapaxes(q, -1, -2))
    assert (np.linalg.eigvalsh(rest[np.isfinite(rest).all(axis=(-1, -2))]) > -1e-7 * np.trace(rho)).all()
    return line
