"""docs/tape-format.md names what is on tapes: every member and every field."""

import io
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from restore_lib.tape import tar
from restore_lib.tape.label import encode_label
from restore_lib.tape.members import encode_line
from restore_lib.tape.volume_index import encode_stripe_table, write_volume_index
from tests.tape.conftest import BLOCK, meta
from tests.tape.test_label import LABEL
from tests.tape.test_members import DIGEST, MEMBER
from tests.tape.test_volume_index import INDEX, SEALED, TABLE

NAMED = set(
    re.findall(
        r"`([^`]+)`", (Path(__file__).parents[2] / "docs" / "tape-format.md").read_text("utf-8")
    )
)


def field_names(value: object) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(field_names, value))
    if isinstance(value, dict):
        return set(value).union(*map(field_names, value.values()))
    return set()


def check_document(data: bytes) -> None:
    for entry in tar.entries(io.BytesIO(data)):
        assert re.sub(r"\d{8}", "NNNNNNNN", entry.name) in NAMED
        if entry.name.endswith(".json"):
            assert field_names(json.loads(entry.read())) <= NAMED


def test_tape_files_are_documented(tmp_path: Path) -> None:
    check_document(encode_label(LABEL))
    check_document(encode_stripe_table(TABLE))
    write_volume_index(tmp_path / "index", INDEX, SEALED, BLOCK)
    check_document((tmp_path / "index").read_bytes())


@pytest.mark.parametrize("key", [b"a", b"\xff"])
def test_index_fields_are_documented(key: bytes) -> None:
    cut = replace(meta(key), part=1, parts=1, object_size=3, object_sha256=DIGEST, etag="x")
    line = json.loads(encode_line(replace(MEMBER, meta=cut)))
    assert set(line) <= NAMED
    assert len(line) == len(fields(MEMBER)) + len(fields(cut)) - 1
