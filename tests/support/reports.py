"""Reports as the flow builds them, small, and pages taken apart as a browser would."""

from html.parser import HTMLParser
from typing import Any

from restore_lib.restore.report import counts_of

_VOID = {"meta"}


class Page(HTMLParser):
    """A page as a browser would take it apart; an element left open or closed twice is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))

    def all(self, tag: str, look: str | None = None) -> list[dict[str, str | None]]:
        return [a for name, a in self.elements if name == tag and look in {None, a.get("class")}]

    def text(self, *tags: str) -> str:
        return " ".join(text for tag, text in self.texts if not tags or tag in tags)


def report(**changes: Any) -> dict[str, Any]:
    none = {"estimated_seconds": None, "p95_seconds": None, "actual_seconds": None}
    plain = {
        "format": 1,
        "verdict": "passed",
        "summary": "Each came back.",
        "request": {
            "id": 12,
            "store": "shop",
            "target": "shop",
            "source": {"incident": 1},
            "incident_id": 1,
            "recovery_point": None,
            "overwrite": "never",
            "actor": "ann",
            "reason": "restore",
            "created_at": "2030-01-01T09:00:00Z",
            "finished_at": "2030-01-01T10:00:00.5Z",
        },
        "counts": counts_of([]) | {"asked": 3, "restored": 3, "verified": 3, "on_tape": 3},
        "bytes": 1_234_567,
        "errors": {},
        "volumes": {
            name: [] for name in ("recalled", "omitted", "bad", "missing", "lost", "unexpected")
        },
        "shipments": [],
        "waves": [],
        "batches": [],
        "throughput": {"seconds": 0.0, "objects_per_second": None, "bytes_per_second": None},
        "estimate": {"recall": none, "read": none, "total": none},
        "names": {
            "never_backed_up": [],
            "changed_after_backup": [],
            "unrestorable": [],
            "failed": [],
            "kept": [],
            "unverified": [],
        },
    }
    return plain | changes


def batch(number: int, **changes: Any) -> dict[str, Any]:
    minute, second = divmod(number % 3000, 60)
    plain = {
        "id": number,
        "wave": 1,
        "kind": "read",
        "volumes": [f"V{number}"],
        "state": "done",
        "attempts": 1,
        "started_at": f"2030-01-01T09:{minute:02}:{second:02}Z",
        "ended_at": f"2030-01-01T09:{minute + 5:02}:{second:02}Z",
        "objects": 10,
        "restored": 10,
        "bytes": 1000,
        "estimate": 1.0,
        "error": None,
    }
    return plain | changes


def wave(**changes: Any) -> dict[str, Any]:
    plain = {
        "number": 1,
        "state": "settled",
        "runner": "cli",
        "opened_at": "2030-01-01T09:10:00Z",
        "settled_at": "2030-01-01T09:30:00Z",
        "batches": 3,
        "objects": 30,
        "restored": 30,
        "bytes": 3000,
    }
    return plain | changes


def shipment(**changes: Any) -> dict[str, Any]:
    plain = {
        "id": 4,
        "vault": "hill",
        "state": "closed",
        "round": 0,
        "follows": None,
        "created_at": "2030-01-01T09:00:00Z",
        "arrived_at": "2030-01-01T09:09:00Z",
        "volumes": 3,
        "omitted": 1,
    }
    return plain | changes
