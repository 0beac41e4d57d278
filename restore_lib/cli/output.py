"""What the command prints: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from restore_lib.errors import TapeflowError
from restore_lib.model.verdict import Verdict

EXIT_CODES = {
    Verdict.PASSED: 0,
    Verdict.FAILED: 1,
    Verdict.PARTIAL: 3,
    Verdict.NOT_CHECKED: 4,
}
_PIPED_WIDTH = 200
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass
class Invocation:
    """One run of the command: which config it works on, and whether it speaks JSON."""

    config: Path | None
    as_json: bool = False


def console(*, stderr: bool = False) -> Console:
    """Return a console for results, or for messages, that takes no text for markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPED_WIDTH
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


def print_json(data: Any) -> None:
    """Print ``data`` as one line of JSON; dataclasses, times and paths among it are made plain."""
    typer.echo(json.dumps(data, default=_plain))


def print_json_list(head: Mapping[str, Any], name: str, rows: Iterable[Any]) -> None:
    """Print one line of JSON, an object of ``head`` and the list ``name``, streaming its rows."""
    typer.echo(json.dumps(dict(head), default=_plain)[:-1], nl=False)
    typer.echo(f"{', ' if head else ''}{json.dumps(name)}: [", nl=False)
    for number, row in enumerate(rows):
        typer.echo((", " if number else "") + json.dumps(row, default=_plain), nl=False)
    typer.echo("]}")


def print_error(error: TapeflowError, *, as_json: bool) -> None:
    """Print an error and its remedy on stderr."""
    if as_json:
        shown = {
            "code": error.code,
            "message": error.message,
            "remedy": error.remedy,
            "context": error.context,
            "retryable": error.retryable,
        }
        typer.echo(json.dumps(shown), err=True)
        return
    typer.echo(f"error: {error.message}", err=True)
    if error.remedy:
        typer.echo(f"remedy: {error.remedy}", err=True)


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> RenderableType:
    """Return rows as a table; no cell is cut short."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(as_text(cell)) for cell in row))
    return shown


def facts(pairs: Mapping[str, object]) -> RenderableType:
    """Return names and values, a line for each."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold")
    shown.add_column(overflow="fold")
    for name, value in pairs.items():
        shown.add_row(Text(name), Text(as_text(value)))
    return shown


def as_text(value: object) -> str:
    """Return a value as people read it: times in UTC, lists with commas, nothing as a dash."""
    match value:
        case None | "":
            text = "-"
        case datetime():
            text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case bool():
            text = "yes" if value else "no"
        case int():
            text = f"{value:,}"
        case float():
            text = f"{value:,.1f}"
        case list() | tuple() | set() | frozenset():
            text = ", ".join(sorted(map(str, value))) or "-"
        case _:
            text = str(value)
    return text


def size_text(size: float) -> str:
    """Return bytes as people read them, in steps of a thousand: ``1.5 GB``."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"


def count_text(count: int, thing: str) -> str:
    """Return how many of a thing there are: ``1 volume``, ``1,200 volumes``."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def duration_text(seconds: float) -> str:
    """Return a duration as people read it: ``0.3 s``, ``1 day, 2:03:04``."""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(value)
