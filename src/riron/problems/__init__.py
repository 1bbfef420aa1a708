"""What is to be learned: law x model x loss x ridge, and the objective that it gives."""

from . import covariances, losses
from .arrays import Table, from_arrays
from .base import Composed, Data, FiniteSum, Law, Objective, OnePass, Problem, Stream
from .chains import Chains
from .least_squares import GaussianLinear, LeastSquares
from .log_density import LogDensity
from .mean_field import MeanFieldProblem
from .quadratic_sum import QuadraticSum
from .teacher import TeacherLaw
from .teacher_student import TeacherStudent

__all__ = [
    "Chains",
    "Composed",
    "Data",
    "FiniteSum",
    "GaussianLinear",
    "Law",
    "LeastSquares",
    "LogDensity",
    "MeanFieldProblem",
    "Objective",
    "OnePass",
    "Problem",
    "QuadraticSum",
    "Stream",
    "Table",
    "TeacherLaw",
    "TeacherStudent",
    "covariances",
    "from_arrays",
    "losses",
]
