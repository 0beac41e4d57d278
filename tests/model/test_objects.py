"""Names of objects as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.model.objects import display_key, key_fields


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"a/b c", "a/b c"),
        ("photos/été 😀.jpg".encode(), "photos/été 😀.jpg"),
        (b"a\nb\tc\x1b[2J", "a\\nb\\tc\\x1b[2J"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("right\u202eleft".encode(), "right\\u202eleft"),
        (b"", ""),
    ],
)
def test_names_are_readable(key: bytes, shown: str) -> None:
    assert display_key(key) == shown


@given(st.binary())
def test_every_name_is_one_printable_line(key: bytes) -> None:
    shown = display_key(key)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


def test_names_are_exact_in_json() -> None:
    assert key_fields("später".encode()) == {"key": "später"}
    assert key_fields(b"\xff") == {"key": r"\xff", "key_b64": "/w=="}
    assert key_fields(b"a\nb")["key_b64"] == "YQpi"
