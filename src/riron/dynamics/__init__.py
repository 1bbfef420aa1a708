"""How it learns: step kernels assembled from gradient estimator x noise x geometry."""

from .assembly import Assembly
from .averaging import Averaged, average
from .base import Dynamics
from .blocks import Blocks
from .clipping import Clipped
from .control_variate import ControlVariate, mode
from .geometries import Euclidean, Geometry, Preconditioned
from .gradients import Epochs, Estimator, Full, Minibatch, WithoutReplacement
from .inner_samplers import Chains, Tempering
from .jko import jko_step
from .mean_field_langevin import mfld, particle_flow, spgd, stable_step_size
from .metropolis import MALA, mala
from .momentum import Momentum
from .noises import Gaussian, Noise, NoNoise
from .particle_dual_averaging import ParticleDualAveraging
from .particle_dual_coordinate_ascent import ParticleDualCoordinateAscent
from .particles import run_particles, shard_particles
from .refresh import Coin, Every, Refresh
from .samplers import cv_sgld, gld, sarah_ld, sgld, svrg_ld, ula
from .sarah import SARAH
from .schedules import Schedule, constant, cosine, linear, table, warmup
from .sgd import gradient_descent, langevin, sgd
from .svrg import SVRG

__all__ = [
    "MALA",
    "SARAH",
    "SVRG",
    "Assembly",
    "Averaged",
    "Blocks",
    "Chains",
    "Clipped",
    "Coin",
    "ControlVariate",
    "Dynamics",
    "Epochs",
    "Estimator",
    "Euclidean",
    "Every",
    "Full",
    "Gaussian",
    "Geometry",
    "Minibatch",
    "Momentum",
    "NoNoise",
    "Noise",
    "ParticleDualAveraging",
    "ParticleDualCoordinateAscent",
    "Preconditioned",
    "Refresh",
    "Schedule",
    "Tempering",
    "WithoutReplacement",
    "average",
    "constant",
    "cosine",
    "cv_sgld",
    "gld",
    "gradient_descent",
    "jko_step",
    "langevin",
    "linear",
    "mala",
    "mfld",
    "mode",
    "particle_flow",
    "run_particles",
    "sarah_ld",
    "sgd",
    "sgld",
    "shard_particles",
    "spgd",
    "stable_step_size",
    "svrg_ld",
    "table",
    "ula",
    "warmup",
]
