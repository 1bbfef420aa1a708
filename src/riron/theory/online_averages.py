"""Averages that drive one-pass SGD: of a sample's gradient times pre-activations, and of its square.

For Gaussian pre-activations u = (w, w*) of student and teacher: closed forms for committees of erf units with squared
loss; products of Gauss-Hermite nodes for smooth losses of few pre-activations; quasi-random points for any other loss.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..models.activations import ACTIVATIONS, erf
from ..problems.losses import absolute, hinge, squared
from ..problems.teacher import SummedLink
from ..problems.teacher_student import TeacherStudent
from . import erf_integrals

AveragesName = Literal["auto", "closed", "hermite", "sobol"]
NAMES = ("auto", "closed", "hermite", "sobol")
MOST_HERMITE = 3  # students and teachers together: nodes are as many as a power of it
HERMITE_ORDER = {2: 40, 3: 20}  # nodes of a variable, by the number of students and teachers
NOISE_ORDER = 6
KINKED = ("relu",)


class Nodes(NamedTuple):
    """Points (N, m+K+1) of a standard Gaussian for (w, w*, z), and their weights (N,), which sum to 1."""

    points: jax.Array
    weights: jax.Array


def choose(problem: TeacherStudent, averages: str) -> tuple[str, Nodes | None]:
    """How the averages are taken, and the nodes where they need some.

    Args:
      problem: in float64.
      averages: "auto" takes closed forms where there are some, else Gauss-Hermite nodes for functions that are known
        to be smooth, else quasi-random points.

    Raises: InputError for a way that this problem does not have.
    """
    m, K = problem.start_overlap.shape
    if averages not in NAMES:
        raise InputError(f"averages='{averages}' is not known", do=f"choose one of {', '.join(NAMES)}")
    if averages == "closed" and not is_erf_committee(problem):
        raise InputError(
            "closed forms are known for committees of erf units with squared loss", do='use averages="sobol"'
        )
    if averages == "hermite" and m + K > MOST_HERMITE:
        raise InputError(
            f"Gauss-Hermite nodes for {m} students and {K} teachers are too many", do='use averages="sobol"'
        )
    if averages == "auto":
        few_and_smooth = m + K <= MOST_HERMITE and is_smooth(problem)
        averages = "closed" if is_erf_committee(problem) else "hermite" if few_and_smooth else "sobol"
    if averages == "closed":
        return averages, None
    if averages == "hermite":
        return averages, hermite_nodes(m, K)
    return averages, Nodes(problem.nodes, jnp.full(len(problem.nodes), 1 / len(problem.nodes)))


def is_erf_committee(problem: TeacherStudent) -> bool:
    link = problem.link
    return (
        problem.activation is erf
        and isinstance(link, SummedLink)
        and link.activation is erf
        and problem.loss is squared
        and not problem.sign
    )


def is_smooth(problem: TeacherStudent) -> bool:
    """Whether every function is one that is known to be smooth; functions of the user's are not known."""
    smooth = [function for name, function in ACTIVATIONS.items() if name not in KINKED]
    known = problem.activation in smooth and isinstance(problem.link, SummedLink) and problem.link.activation in smooth
    return known and not problem.sign and problem.loss not in (absolute, hinge)


def hermite_nodes(m: int, K: int) -> Nodes:
    """Products of Gauss-Hermite nodes."""
    order = HERMITE_ORDER[max(m + K, 2)]
    rules = [np.polynomial.hermite_e.hermegauss(n) for n in (*[order] * (m + K), NOISE_ORDER)]
    points = np.stack([x.ravel() for x in np.meshgrid(*(x for x, _ in rules), indexing="ij")], axis=1)
    weights = np.prod(np.meshgrid(*(w / w.sum() for _, w in rules), indexing="ij"), axis=0).ravel()
    kept = weights > 1e-14
    return Nodes(jnp.asarray(points[kept]), jnp.asarray(weights[kept] / weights[kept].sum()))


def averages_of(
    problem: TeacherStudent, nodes: Nodes | None, Q: jax.Array, q: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """E[ell u^T] (m, m+K) and E[ell ell^T] (m, m) at the overlaps Q (m, m) and q (m, K); closed without nodes."""
    if nodes is None:
        return closed_averages(problem, Q, q)
    w, w_star, z = placed(problem, nodes, Q, q)
    ell = jax.vmap(jax.grad(problem.sample_loss))(w, w_star, z)
    weighted = ell.T * nodes.weights
    return weighted @ jnp.concatenate([w, w_star], axis=1), weighted @ ell


def losses_of(problem: TeacherStudent, nodes: Nodes | None, Q: jax.Array, q: jax.Array) -> dict[str, jax.Array]:
    """test_loss, and test_error for sign labels."""
    if nodes is None:
        c, S = weights_and_covariance(problem, Q, q)
        return {"test_loss": (c @ erf_integrals.two(S) @ c + problem.label_noise) / 2}
    if problem.sign:
        return problem.measure_overlaps(Q, q)
    return {"test_loss": nodes.weights @ jax.vmap(problem.sample_loss)(*placed(problem, nodes, Q, q))}


def placed(problem: TeacherStudent, nodes: Nodes, Q: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The nodes as (w, w*, z)."""
    return eqx.tree_at(lambda p: p.nodes, problem, nodes.points).fresh(Q, q)


def closed_averages(problem: TeacherStudent, Q: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The averages of an erf committee.

    Source: Saad & Solla, Phys. Rev. E 1995.
    """
    m, a = len(Q), problem.second
    c, S = weights_and_covariance(problem, Q, q)
    first = a[:, None] * (erf_integrals.three(S, m) @ c)
    squares = jnp.einsum("ilcd,c,d->il", erf_integrals.four(S, m), c, c)
    return first, a[:, None] * a * (squares + problem.label_noise * erf_integrals.slopes(S)[:m, :m])


def weights_and_covariance(problem: TeacherStudent, Q: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The residual's weights (a, -1) on the units (w, w*), and the covariance of their pre-activations."""
    c = jnp.concatenate([problem.second, -jnp.ones(q.shape[1])])
    return c, jnp.block([[Q, q], [q.T, problem.teacher_gram]])
