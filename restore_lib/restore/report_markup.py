"""Markup that can't be broken by what is in it, and figures as people read them."""

import html
from datetime import datetime

from restore_lib.model.objects import display_key

UNKNOWN = "—"
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


class Markup(str):
    """Text that is HTML or SVG already; any other text is escaped before it goes into a page."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; children that are None are left out, and so are such attributes.

    Underscores in the names of attributes stand for hyphens, one at the end for nothing.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: object) -> Markup:
    """Return children one after the other, escaped unless they are markup."""
    return Markup("".join(escaped(child) for child in children if child is not None))


def escaped(value: object) -> str:
    """Return ``value`` as text that shows as itself: what is not printable as its escape."""
    if isinstance(value, Markup):
        return value
    return html.escape(display_key(str(value).encode("utf-8", "surrogatepass")))


def number(value: float | None) -> str:
    """Return a number with its thousands apart and, below 100, one decimal; a dash for None."""
    if value is None:
        return UNKNOWN
    return f"{value:,.1f}" if value % 1 and value < 100 else f"{value:,.0f}"


def count(value: int, noun: str) -> str:
    """Return how many of something there are, in the plural where it is not one."""
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{value:,} {noun if value == 1 else plural}"


def size(value: float | None) -> str:
    """Return bytes in the decimal units that tape drives use; a dash for None."""
    if value is None:
        return UNKNOWN
    power = 0
    while value >= 999.95 and power < len(_SIZES) - 1:
        value /= 1000
        power += 1
    return f"{value:.0f} {_SIZES[power]}" if not power else f"{value:.1f} {_SIZES[power]}"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units; a dash for None."""
    if seconds is None:
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, length in _UNITS:
        whole, left = divmod(left, length)
        if whole or parts:
            parts.append((whole, unit))
    return " ".join(f"{whole} {unit}" for whole, unit in parts[:2] if whole)


def parsed(instant: str | None) -> datetime | None:
    """Return the time that a report's text for it means."""
    return None if instant is None else datetime.fromisoformat(instant)


def moment(instant: str | None) -> str:
    """Return a time of a report, which is UTC, to the second; a dash for None."""
    at = parsed(instant)
    return UNKNOWN if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
