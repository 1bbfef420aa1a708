"""The compressed past: recent steps singly, older ones in blocks whose length doubles with their age.

A block stands for the sum of its steps' noises and for the average of the responses to them, which vary slowly with
age. Then the number of blocks grows as the logarithm of the number of steps, and the cost of a sweep is linear in it.
Which blocks are joined when depends on the count of steps alone: it is planned before the sweep begins.
"""

import functools
from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """Where the rows of the past lie, for each step.

    slot (T,): the row that the step's new noise is written to, free until then.
    into, gone (T,): the two blocks joined after the step; `capacity`, a row that stays empty, where none are.
    capacity: number of rows in use at most.
    owner: for the steps asked for, the row (k,) that holds each earlier step.
    """

    slot: np.ndarray
    into: np.ndarray
    gone: np.ndarray
    capacity: int
    owner: dict[int, np.ndarray]


@functools.lru_cache(maxsize=64)
def plan(steps: int, blocks: tuple[int, int] | None, asked: tuple[int, ...] = ()) -> Plan:
    """Plan of `steps` steps.

    Args:
      steps: T.
      blocks: (keep, per): the newest `keep` steps are single, then come about `per` blocks of each length 2, 4, 8, ...;
        None keeps every step.
      asked: steps whose `owner` is wanted.
    """
    slot, into, gone = np.full((3, steps), -1)
    owner: dict[int, np.ndarray] = {}
    free: list[int] = []
    used = 0
    levels: list[list[tuple[int, int]]] = [[]]  # for each length 2^l the blocks (row, first step), oldest first
    for k in range(steps):
        if k in asked:
            owner[k] = holders(levels, k)
        if not free:
            free.append(used)
            used += 1
        slot[k] = free.pop()
        levels[0].append((int(slot[k]), k))
        if blocks is None:
            continue
        # One joining a step is enough: joinings are fewer than steps, and what is left waits a step or two.
        for level, members in enumerate(levels):
            if len(members) > 1 + blocks[level > 0]:
                (older, first), (newer, _) = members[:2]
                del members[:2]
                if level + 1 == len(levels):
                    levels.append([])
                levels[level + 1].append((older, first))
                into[k], gone[k] = older, newer
                free.append(newer)
                break
    if steps in asked:
        owner[steps] = holders(levels, steps)
    empty = into < 0
    into[empty], gone[empty] = used, used
    return Plan(slot, into, gone, used, owner)


def holders(levels: list[list[tuple[int, int]]], k: int) -> np.ndarray:
    """The row that holds each of the steps 0, ..., k-1."""
    rows = np.zeros(k, int)
    for level, members in enumerate(levels):
        for row, first in members:
            rows[first : first + 2**level] = row
    return rows
