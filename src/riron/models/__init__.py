"""What learns: functions of parameters and inputs."""

from .activations import ACTIVATIONS, to_activation
from .base import Model, to_real
from .linear import Linear
from .mean_field import MeanField
from .neurons import Neuron, to_neuron
from .random_features import RandomFeatures, random_features
from .two_layer import Layers, TwoLayer

__all__ = [
    "ACTIVATIONS",
    "Layers",
    "Linear",
    "MeanField",
    "Model",
    "Neuron",
    "RandomFeatures",
    "TwoLayer",
    "random_features",
    "to_activation",
    "to_neuron",
    "to_real",
]
