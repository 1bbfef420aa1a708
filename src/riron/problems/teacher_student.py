"""Teacher and student: labels from a few directions in high dimension, learned by a network with a fixed second layer.

The setting of dynamical mean-field theory and of the one-pass equations: everything that is measured of fresh samples
depends on the parameters only through the covariance of a handful of pre-activations.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_array, as_positive, as_vector
from ..errors import InputError
from ..models.activations import Activation, to_activation
from ..models.base import to_real
from ..models.two_layer import Layers, TwoLayer
from .base import Problem
from .gaussian_nodes import gaussian_nodes
from .losses import Loss, to_loss
from .teacher import ENTRIES, Link, TeacherLaw, check_covariance, directions_with_gram, to_link


class TeacherStudent(Problem):
    """Student f(x) = sum_j a_j sigma(theta_j . x), labels y = link(theta*^T x) + noise, x_j of variance spectrum_j / d.

    It measures train_loss; test_loss (expected loss of a fresh sample, label noise included) and, for sign labels,
    test_error, both by quadrature over the Gaussian pre-activations (to a few 1e-4; for entries that are not Gaussian
    in the limit of large d); overlap q = theta^T S theta* / d (student, teacher) and self_overlap
    Q = theta^T S theta / d, S the diagonal matrix of the spectrum: plain numbers if m = K = 1.

    SGD with step size eta and batch B on it is dynamical mean-field theory at dt = eta / d and tau = eta / B, with
    lam = d x ridge. The trained parameters are `params.first` = theta^T, (m, d).

    Args:
      d: dimension of the inputs.
      link: the teacher's function of its pre-activations r* (K,) (a function of that vector), or the name of an
        activation, which is applied to each of them and summed.
      activation: sigma, a name or a function.
      loss: a name or a function loss(f, y).
      label_noise: variance of the noise that is added to the link, before the sign if `sign`.
      sign: labels are the sign, -1 or 1.
      ridge: penalty ridge |theta|^2 / 2.
      teacher_gram: (K, K) covariance rho of the teacher's pre-activations, positive definite; a number for K = 1.
      start_gram: (m, m) that of the student's at the start; a number c for c I.
      overlap: (m, K) covariance of the two at the start; a number for the same everywhere.
      second: (m,) the student's fixed second layer a; a number for m = 1.
      spectrum: (d,) variances of the inputs times d; all 1 unless given.
      entries: law of the independent entries: gaussian, rademacher or uniform.
      teacher: (d, K) the directions theta* themselves (entries of order 1), in place of random ones with
        `teacher_gram`, which are drawn by `seed`.
      matched: the start has exactly the covariances asked for; otherwise on average.
      seed: of the random directions.

    Raises:
      InputError: shapes that do not fit, or covariances that no start can have (not positive semidefinite).
    """

    teacher: jax.Array
    second: jax.Array
    spectrum: jax.Array
    label_noise: jax.Array
    ridge: jax.Array
    start_gram: jax.Array
    start_overlap: jax.Array
    nodes: jax.Array
    link: Link = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    loss: Loss = eqx.field(static=True)
    sign: bool = eqx.field(static=True)
    entries: str = eqx.field(static=True)
    matched: bool = eqx.field(static=True)

    def __init__(
        self,
        d: int,
        *,
        link: str | Link = "identity",
        activation: str | Activation = "identity",
        loss: str | Loss = "squared",
        label_noise: float = 0.0,
        sign: bool = False,
        ridge: float = 0.0,
        teacher_gram: ArrayLike = 1.0,
        start_gram: ArrayLike = 1.0,
        overlap: ArrayLike = 0.0,
        second: ArrayLike = 1.0,
        spectrum: ArrayLike | None = None,
        entries: str = "gaussian",
        teacher: ArrayLike | None = None,
        matched: bool = True,
        seed: int = 0,
    ):
        readout = np.atleast_1d(as_array(second, "second", ndim=(0, 1)))
        variances = np.ones(d) if spectrum is None else as_vector(spectrum, "spectrum")
        if len(variances) != d:
            raise InputError(f"spectrum has {len(variances)} entries and d={d}")
        if variances.min() < 0 or variances.max() == 0:
            raise InputError("spectrum must hold eigenvalues >= 0, not all of them 0")
        if entries not in ENTRIES:
            raise InputError(f"entries='{entries}' is not known", do=f"choose one of {', '.join(ENTRIES)}")
        if teacher is None:
            gram = np.atleast_2d(as_array(teacher_gram, "teacher_gram", ndim=(0, 2)))
            theta = directions_with_gram(np.random.default_rng(seed).normal(size=(d, len(gram))), variances, gram)
        else:
            theta = as_array(teacher, "teacher", ndim=(1, 2))
            theta = theta[:, None] if theta.ndim == 1 else theta
            if len(theta) != d:
                raise InputError(f"teacher has {len(theta)} rows and d={d}", do="give directions as columns, (d, K)")
            gram = theta.T @ (variances[:, None] * theta) / d
            check_covariance(gram, "the teacher's covariance", definite=True)
        m, K = len(readout), len(gram)
        if d < m + K:
            raise InputError(f"d={d} has no room for {m} student and {K} teacher directions", do="raise d")
        start = as_array(start_gram, "start_gram", ndim=(0, 2))
        start = start * np.eye(m) if start.ndim == 0 else start
        shared = as_array(overlap, "overlap", ndim=(0, 2))
        if start.shape != (m, m) or shared.shape not in ((), (m, K)):
            raise InputError(
                f"start_gram has shape {start.shape} and overlap {shared.shape}; they need {(m, m)} and {(m, K)}"
            )
        shared = np.broadcast_to(shared, (m, K))
        joint = np.block([[start, shared], [shared.T, gram]])
        check_covariance(joint, "the start [[start_gram, overlap], [overlap^T, teacher_gram]]")
        self.teacher, self.second, self.spectrum = to_real(theta), to_real(readout), to_real(variances)
        self.label_noise = to_real(as_positive(label_noise, "label_noise", zero=True))
        self.ridge = to_real(as_positive(ridge, "ridge", zero=True))
        self.start_gram, self.start_overlap = to_real(start), to_real(shared)
        self.nodes = to_real(gaussian_nodes(m + K + 1))
        self.link, self.activation, self.loss = to_link(link), to_activation(activation), to_loss(loss)
        self.sign, self.entries, self.matched = bool(sign), entries, bool(matched)

    @property
    def law(self) -> TeacherLaw:
        return TeacherLaw(self.teacher, self.spectrum, self.label_noise, self.link, self.sign, self.entries)

    @property
    def model(self) -> TwoLayer:
        d, m = self.spectrum.shape[0], self.second.shape[0]
        return TwoLayer(d, m, "none", self.activation, second=self.second)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        if self.plain:
            return {}
        return {"overlap": ("student", "teacher"), "self_overlap": ("student", "other_student")}

    @property
    def plain(self) -> bool:
        """Whether there is one student and one teacher direction."""
        return self.start_overlap.shape == (1, 1)

    @property
    def teacher_gram(self) -> jax.Array:
        """(K, K) covariance of the teacher's pre-activations, theta*^T S theta* / d."""
        return self.overlap_of(self.teacher, self.teacher)

    def overlap_of(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """a^T S b / d: the covariance of the pre-activations of two sets of directions (d, .)."""
        return a.T @ (self.spectrum[:, None] * b) / self.spectrum.shape[0]

    def sample_loss(self, r: jax.Array, r_star: jax.Array, z: jax.Array) -> jax.Array:
        """L(r, r*, z): the loss of one sample from its pre-activations (m,), (K,) and noise z ~ N(0, 1)."""
        return self.loss(self.output(r), self.law.label(r_star, z))

    def output(self, r: jax.Array) -> jax.Array:
        """The student's output from its pre-activations (m,)."""
        return self.activation(r) @ self.second

    def initial(self, key: jax.Array) -> Layers:
        """theta_0 with the covariance of pre-activations asked for: exactly if `matched`, else on average."""
        d, m = self.spectrum.shape[0], self.second.shape[0]
        along = jnp.linalg.solve(self.teacher_gram, self.start_overlap.T)
        rest = self.start_gram - self.start_overlap @ along
        free = jax.random.normal(key, (d, m)) / jnp.sqrt(jnp.mean(self.spectrum))
        if self.matched:
            free -= self.teacher @ jnp.linalg.solve(self.teacher_gram, self.overlap_of(self.teacher, free))
            free = jax.scipy.linalg.solve_triangular(
                jnp.linalg.cholesky(self.overlap_of(free, free)), free.T, lower=True
            ).T
        return Layers((self.teacher @ along + free @ root(rest)).T, None)

    def measure_fresh(self, params: Layers) -> dict[str, jax.Array]:
        theta = params.first.T  # pyright: ignore[reportOptionalMemberAccess]
        q, Q = self.overlap_of(theta, self.teacher), self.overlap_of(theta, theta)
        measured = self.measure_overlaps(Q, q)
        overlaps = {"overlap": q, "self_overlap": Q}
        return measured | ({name: v[0, 0] for name, v in overlaps.items()} if self.plain else overlaps)

    def measure_overlaps(self, Q: jax.Array, q: jax.Array) -> dict[str, jax.Array]:
        """test_loss, and test_error for sign labels, of a student with self-overlap Q (m, m) and overlap q (m, K)."""
        r, r_star, z = self.fresh(Q, q)
        measured = {"test_loss": jnp.mean(jax.vmap(self.sample_loss)(r, r_star, z))}
        if self.sign:
            wrong = jax.vmap(lambda r, s, z: ~(self.output(r) * self.law.label(s, z) > 0))(r, r_star, z)
            measured["test_error"] = jnp.mean(wrong.astype(r.dtype))
        return measured

    def fresh(self, Q: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Quadrature points of (r, r*, z) for fresh samples: r, r* ~ N(0, [[Q, q], [q^T, rho]]), z ~ N(0, 1)."""
        m, K = q.shape
        rho = self.teacher_gram
        for_student, for_teacher, z = self.nodes[:, :m], self.nodes[:, m : m + K], self.nodes[:, -1]
        r_star = for_teacher @ root(rho)
        along = jnp.linalg.solve(rho, q.T)
        return r_star @ along + for_student @ root(Q - q @ along), r_star, z


def root(matrix: jax.Array) -> jax.Array:
    """The symmetric root of a positive semidefinite matrix; eigenvalues below 0 by rounding count as 0."""
    if matrix.shape == (1, 1):
        return jnp.sqrt(jnp.maximum(matrix, 0))
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ vectors.T
