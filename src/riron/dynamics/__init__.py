"""How it learns: step kernels assembled from gradient estimator x noise x geometry."""

from .assembly import Assembly
from .averaging import Averaged, average
from .base import Dynamics
from .clipping import Clipped
from .geometries import Euclidean, Geometry, Preconditioned
from .gradients import Epochs, Estimator, Full, Minibatch, WithoutReplacement
from .momentum import Momentum
from .noises import Gaussian, Noise, NoNoise
from .schedules import Schedule, constant, cosine, linear, table, warmup
from .sgd import gradient_descent, langevin, sgd

__all__ = [
    "Assembly",
    "Averaged",
    "Clipped",
    "Dynamics",
    "Epochs",
    "Estimator",
    "Euclidean",
    "Full",
    "Gaussian",
    "Geometry",
    "Minibatch",
    "Momentum",
    "NoNoise",
    "Noise",
    "Preconditioned",
    "Schedule",
    "WithoutReplacement",
    "average",
    "constant",
    "cosine",
    "gradient_descent",
    "langevin",
    "linear",
    "sgd",
    "table",
    "warmup",
]
