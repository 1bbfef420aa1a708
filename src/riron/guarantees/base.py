"""What every guarantee has: a status, the assumptions it rests on, and a sentence."""

import abc
from typing import ClassVar


class Guarantee(abc.ABC):
    """A number with its assumptions and its confidence."""

    assumptions: ClassVar[tuple[str, ...]] = ()

    status: str
    """Whether the number may be used, in one word."""

    @abc.abstractmethod
    def __str__(self) -> str:
        """What is guaranteed, or why nothing is, in a sentence or two."""
