"""riron: the theory of learning, made to run. Every public name stands here once and is loaded when first used."""
from ._version import __version__ as __version__
