"""What is to be learned: law x model x loss x ridge, and the objective that it gives."""

from . import covariances, losses
from .arrays import Table, from_arrays
from .base import Composed, Data, FiniteSum, Law, Objective, OnePass, Problem, Stream
from .least_squares import GaussianLinear, LeastSquares
from .teacher import TeacherLaw
from .teacher_student import TeacherStudent

__all__ = [
    "Composed",
    "Data",
    "FiniteSum",
    "GaussianLinear",
    "Law",
    "LeastSquares",
    "Objective",
    "OnePass",
    "Problem",
    "Stream",
    "Table",
    "TeacherLaw",
    "TeacherStudent",
    "covariances",
    "from_arrays",
    "losses",
]
