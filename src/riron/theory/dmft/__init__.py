"""Dynamical mean-field theory of SGD in the limit of many samples and dimensions."""

from .parameters import normal_floor, parameter_law, sampling_floor, shape_distance, wasserstein_to_normal
from .schedule import best_schedule
from .solving import solve
from .stationary import stationary_convex, stationary_least_squares, time_averaged

__all__ = [
    "best_schedule",
    "normal_floor",
    "parameter_law",
    "sampling_floor",
    "shape_distance",
    "solve",
    "stationary_convex",
    "stationary_least_squares",
    "time_averaged",
    "wasserstein_to_normal",
]
