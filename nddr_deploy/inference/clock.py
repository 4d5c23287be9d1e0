"""Time stamps as the source gives them, mended only where they cannot be right."""

from __future__ import annotations

from fractions import Fraction


class Clock:
    """Turns the time stamps of decoded frames into times that always increase.

    A stamp that increases is passed on unchanged, so variable frame rates stay exact. A missing one continues at the
    nominal rate; one that stands still or steps back a little is moved by the smallest step; a long step back (two
    recordings joined, a counter that wrapped) starts a new section after the frames before.

    Args:
        time_base: the smallest step, in seconds.
        rate: nominal frames per second.
    """

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self._step = time_base
        self._interval = max(round(1 / rate / time_base), 1) * time_base
        self._offset = Fraction(0)
        self._last: Fraction | None = None
        self.mended = 0

    def time_of(self, stamp: int | None) -> Fraction:
        """The frame's time in seconds; `stamp` counts time bases, None where the file has none."""
        last = self._last
        if stamp is None:
            time = Fraction(0) if last is None else last + self._interval
            self.mended += 1
        else:
            time = stamp * self._step + self._offset
            if last is not None and time <= last:
                self.mended += 1
                if last - time > 2 * self._interval:
                    self._offset += last + self._interval - time
                    time = last + self._interval
                else:
                    time = last + self._step
        self._last = time
        return time
