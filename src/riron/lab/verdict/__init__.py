"""Do dots and line agree, and would we have noticed if they did not? Five kinds of claim and one judge."""

from .below import Below
from .equal import Equal
from .judging import describe, judge
from .mutations import Instead, judge_mutations, mutated, notices
from .ordered import Ordered
from .rate import Rate
from .seeds import double_until_decided
from .vanishes import Vanishes

__all__ = [
    "Below",
    "Equal",
    "Instead",
    "Ordered",
    "Rate",
    "Vanishes",
    "describe",
    "double_until_decided",
    "judge",
    "judge_mutations",
    "mutated",
    "notices",
]
