from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from restore_lib.errors import CorruptTapeFile
from restore_lib.tape.fields import Fields, rfc3339, to_json


def test_json_keeps_names_readable_and_odd_ones_whole() -> None:
    assert to_json({"key": "Größe\n"}) == '{"key":"Größe\\n"}'.encode()
    odd = {"key": "lone \ud800"}
    assert Fields.parse(to_json(odd), "line").text("key") == odd["key"]


def test_times_are_in_utc() -> None:
    there = datetime(2012, 11, 5, 10, 0, tzinfo=timezone(timedelta(hours=1)))
    assert rfc3339(there) == "2012-11-05T09:00:00Z"
    parsed = Fields.parse(to_json({"at": rfc3339(there)}), "line").moment("at")
    assert parsed == there
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_named(text: bytes) -> None:
    with pytest.raises(CorruptTapeFile, match="line 7"):
        Fields.parse(text, "line 7")


@pytest.mark.parametrize(
    ("ask", "value"),
    [
        (lambda f: f.text("x"), 1),
        (lambda f: f.text_or_none("x"), 1),
        (lambda f: f.integer("x"), -1),
        (lambda f: f.integer("x"), True),
        (lambda f: f.integer("x"), 1.5),
        (lambda f: f.integer("x", least=1), 0),
        (lambda f: f.digest("x"), "00"),
        (lambda f: f.digest("x"), "F" * 64),
        (lambda f: f.moment("x"), "yesterday"),
        (lambda f: f.moment("x"), "2012-11-05T09:00:00"),
        (lambda f: f.texts("x"), ["a", 1]),
        (lambda f: f.mapping("x"), {"a": 1}),
        (lambda f: f.objects("x"), {}),
        (lambda f: f.objects("x"), [1]),
    ],
)
def test_a_wrong_or_missing_field_is_named(ask: Callable[[Fields], object], value: object) -> None:
    for data in ({"x": value}, {}):
        with pytest.raises(CorruptTapeFile, match=r"line 7.*x"):
            ask(Fields.parse(to_json(data), "line 7"))
