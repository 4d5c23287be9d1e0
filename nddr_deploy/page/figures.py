"""Numbers as people read them, in a page and on a terminal."""

from __future__ import annotations

MINUS = "−"
# unit -> (factor, decimals, what follows a value, what follows a change)
_UNITS = {
    "share": (100.0, 2, " %", " points"),
    "degrees": (1.0, 2, "°", "°"),
    "metres": (1.0, 4, " m", " m"),
    "years": (1.0, 2, " years", " years"),
}


def value_text(value: float | None, unit: str) -> str:
    """`75.34 %`, `16.20°`, `0.3447 m`; a dash for what was not measured."""
    if value is None:
        return "–"
    factor, decimals, follows, _ = _UNITS.get(unit, (1.0, 4, "", ""))
    return f"{_signed(value * factor, decimals)}{follows}"


def axis_text(value: float, unit: str) -> str:
    """`75 %`, `16.2°`: short, for the axis of a chart."""
    factor, _, follows, _ = _UNITS.get(unit, (1.0, 4, "", ""))
    return f"{short_number(value * factor)}{follows.replace(' years', '')}"


def change_text(change: float | None, unit: str) -> str:
    """`−0.21 points`, `+0.05°`."""
    if change is None:
        return "–"
    factor, decimals, _, follows = _UNITS.get(unit, (1.0, 4, "", ""))
    return f"{_signed(change * factor, decimals, plus=True)}{follows}"


def interval_text(low: float | None, high: float | None, unit: str) -> str:
    """`−0.40 to −0.02`, in the unit of `change_text`."""
    if low is None or high is None:
        return "–"
    factor, decimals, _, _ = _UNITS.get(unit, (1.0, 4, "", ""))
    return " to ".join(_signed(end * factor, decimals, plus=True) for end in (low, high))


def size_text(count: int) -> str:
    """`9.1 MB`."""
    for factor, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.1f} {name}"
    return f"{count} bytes"


def times_text(ratio: float) -> str:
    """`4.92×`."""
    return f"{ratio:.2f}×"


def short_number(value: float | None) -> str:
    """Four digits, with a real minus; a dash for what is no number."""
    return "–" if value is None else f"{value:.4g}".replace("-", MINUS)


def _signed(value: float, decimals: int, *, plus: bool = False) -> str:
    text = f"{abs(value):.{decimals}f}"
    if float(text) == 0:
        return text
    return f"{MINUS if value < 0 else '+' if plus else ''}{text}"
