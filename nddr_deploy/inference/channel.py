"""A bounded queue between two threads that can always be ended, from either side or from outside."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Stopped(Exception):
    """The run was stopped; leave the stage."""


class Channel(Generic[Item]):
    """At most `size` items wait. Nothing is lost: `put` waits for room, iteration waits for items.

    Args:
        size: how many items may wait, at least 1.
    """

    def __init__(self, size: int) -> None:
        self._items: deque[Item] = deque()
        self._size = size
        self._ended = False
        self._stopped = False
        self._changed = Condition()

    def put(self, item: Item) -> None:
        """Add an item; wait while the channel is full.

        Raises:
            Stopped: the channel was stopped, before or while waiting.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < self._size)
            if self._stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Items in order, until the channel was ended and is empty.

        Raises:
            Stopped: the channel was stopped.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._ended or bool(self._items))
                if self._stopped:
                    raise Stopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def end(self) -> None:
        """No more items will come; those that wait are still delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Both sides leave at once; what waits is thrown away."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()
