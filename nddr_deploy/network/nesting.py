"""How deeply a pickle nests its values and how often it repeats them, from its operations alone.

A tuple in a tuple in a tuple, a million times, ends the process when it is the key of a dictionary: hashing it recurses
in C. A pair of the same pair, sixty times, takes no memory, but its hash takes for ever.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

DEEPEST = 1000  # what is genuine has ten levels; C stacks hold some ten thousand
MARK = pickletools.markobject
ADD_TO_FIRST = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}


@dataclass
class Extent:
    """Of a value: how many levels it has, and how many values it would be if nothing in it were shared.

    A list or dictionary grows after it was made, also for the memo that names it.
    """

    depth: int = 1
    size: int = 1

    def add(self, items: Iterable[Extent]) -> None:
        for item in items:
            self.depth, self.size = max(self.depth, 1 + item.depth), self.size + item.size


def largest_extent(operations: Iterable[tuple[Any, Any, Any]], most: int) -> Extent:
    """The extent of the first value that is too deep or too large; else that of the last value.

    Args:
        operations: from `pickletools.genops`.
        most: how large a value may be.

    Raises:
        IndexError, KeyError: the operations take what is not there.
    """
    stack: list[Extent | None] = []  # None: a mark
    memo: dict[int, Extent] = {}
    made = Extent()
    for operation, argument, _ in operations:
        name = operation.name
        if name == "DUP":
            stack.append(stack[-1])
        elif name == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif name.endswith("PUT"):
            memo[int(argument)] = _top(stack)
        elif name.endswith("GET"):
            stack.append(memo[int(argument)])
        elif operation.stack_after == [MARK]:
            stack.append(None)
        else:
            taken = _take(stack, operation.stack_before)
            made = _made(name, taken)
            stack.extend(made for _ in operation.stack_after)
            if made.depth > DEEPEST or made.size > most:
                return made
    return made


def _made(name: str, taken: list[Extent]) -> Extent:
    container, items = (taken[0], taken[1:]) if name in ADD_TO_FIRST and taken else (Extent(), taken)
    container.add(items)
    return container


def _take(stack: list[Extent | None], before: list[Any]) -> list[Extent]:
    """What an operation takes: a number of values, or all down to a mark and some below it."""
    taken: list[Extent] = []
    below = len(before)
    if MARK in before:
        while (value := stack.pop()) is not None:
            taken.append(value)
        below = before.index(MARK)
    for _ in range(below):
        value = stack.pop()
        if value is not None:  # POP also takes a mark
            taken.append(value)
    return taken[::-1]


def _top(stack: list[Extent | None]) -> Extent:
    return stack[-1] or Extent()
