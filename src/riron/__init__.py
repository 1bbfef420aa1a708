"""riron: the theory of learning, made to run. Every public name stands once, in `__init__.pyi`, and loads lazily."""

import lazy_loader

from ._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
