"""What a task knows of its run: the site it works on, on whose behalf, and where to tell of it."""

import json
import logging
import os
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

if TYPE_CHECKING:
    from restore_lib.site import Site

TAPE_POOL = "tape_drives"
"""The pool with one slot for each drive."""
TAPE_QUEUE = "drives"
"""The Celery queue of the hosts that reach the tape library; LocalExecutor has one queue only."""

log = logging.getLogger(__name__)
_QUIET_SECONDS = 10.0


@contextmanager
def open_site() -> Iterator["Site"]:
    """Open the site that TAPEFLOW_CONFIG names, for one task."""
    from restore_lib.site import Site

    logging.getLogger("alembic").setLevel(logging.WARNING)
    site = Site.load()
    try:
        yield site
    finally:
        site.close()


def run_name() -> str:
    """Return the name of the run, the same for each of its tasks and tries."""
    run = get_current_context()["dag_run"]
    return f"airflow:{run.dag_id}/{run.run_id}"


def actor() -> str:
    """Return who acts, as the audit trail names it: the run, and the user who triggered it."""
    user = getattr(get_current_context()["dag_run"], "triggering_user_name", None)
    return run_name() + (f" by {user}" if user else "")


def params() -> Mapping[str, Any]:
    """Return the run's parameters."""
    found: Mapping[str, Any] = get_current_context()["params"]
    return found


def push(key: str, value: int | list[int]) -> None:
    """Hand ids to later tasks beside what the task returns."""
    get_current_context()["ti"].xcom_push(key=key, value=value)


def configured(section: str) -> list[str]:
    """Return the names in a section of tapeflow.toml, for the trigger form to offer.

    Nothing when the file can't be read: the task that needs it says why.
    """
    path = Path(os.environ.get("TAPEFLOW_CONFIG") or "tapeflow.toml")
    try:
        return list(tomllib.loads(path.read_text("utf-8")).get(section, {}))
    except (OSError, ValueError, TypeError):
        return []


def show(title: str, facts: Mapping[str, Any]) -> None:
    """Log a plan or a result: plain values line by line, lists of rows as tables."""
    lines = [title]
    for name, value in facts.items():
        if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            lines += [f"{name}:", *_table(value)]
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            lines.append(f"{name}: {text}")
    log.info("\n".join(lines))


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    heads = list(rows[0])
    cells = [heads, *([str(row.get(head, "")) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        yield "  " + "  ".join(map(str.ljust, line, widths)).rstrip()


class LoggedProgress:
    """Progress in the task's log: at each new stage, and then every ten seconds."""

    def __init__(self) -> None:
        self._label = ""
        self._wanted: tuple[int | None, int | None] = (None, None)
        self._objects = self._bytes = 0
        self._told = time.monotonic()

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        """Begin a stage of ``objects`` objects and ``size`` bytes, where these are known."""
        self._label, self._wanted = label, (objects, size)
        self._objects = self._bytes = 0
        self._told = time.monotonic()
        log.info(label if objects is None else f"{label}: {objects:,} objects")

    def advance(self, objects: int = 0, size: int = 0) -> None:
        """Count ``objects`` objects and ``size`` bytes as done in the current stage."""
        self._objects += objects
        self._bytes += size
        now = time.monotonic()
        if now - self._told < _QUIET_SECONDS:
            return
        self._told = now
        wanted_objects, wanted_bytes = self._wanted
        log.info(
            "%s: %s objects, %s bytes",
            self._label,
            _of(self._objects, wanted_objects),
            _of(self._bytes, wanted_bytes),
        )


def _of(done: int, wanted: int | None) -> str:
    return f"{done:,}" if wanted is None else f"{done:,} of {wanted:,}"
