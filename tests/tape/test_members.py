import json
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.errors import CorruptTapeFile
from restore_lib.tape.members import (
    Member,
    MemberMeta,
    decode_line,
    decode_lines,
    encode_line,
    line_bound,
)
from tests.tape.conftest import WHEN, meta

DIGEST = "ab" * 32
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
sizes = st.integers(0, 1 << 50)
metas = st.builds(
    MemberMeta,
    store=st.text(),
    key=st.binary(max_size=300) | st.text().map(str.encode),
    version=st.none() | st.text(),
    modified_at=st.datetimes(timezones=st.just(UTC)),
    content_type=st.none() | st.text(),
    metadata=st.dictionaries(st.text(), st.text(), max_size=3),
    etag=st.none() | st.text(),
)
members = st.builds(
    Member,
    ordinal=st.integers(0, 99_999_999),
    compressed=st.booleans(),
    size=sizes,
    sha256=digests,
    stored_size=sizes,
    stored_sha256=digests,
    offset=sizes,
    meta=metas,
)
MEMBER = Member(7, True, 3, DIGEST, 300, DIGEST, 512, meta(b"a/b"))


@given(members)
def test_a_line_parses_back(member: Member) -> None:
    line = encode_line(member)
    assert line.count(b"\n") == 1
    assert decode_line(line, "line 1") == member


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))), digests)
def test_a_part_parses_back(numbers: tuple[int, int], digest: str) -> None:
    part, parts = numbers
    whole = digest if part == parts else None
    cut = replace(meta(), part=part, parts=parts, object_size=parts * 10, object_sha256=whole)
    member = replace(MEMBER, meta=cut)
    assert decode_line(encode_line(member), "line 1") == member


@given(members, st.text(st.characters()), st.booleans())
def test_no_line_is_longer_than_its_bound(member: Member, hostile: str, cut: bool) -> None:
    found = replace(member.meta, etag=hostile, metadata={hostile: hostile})
    if cut:
        found = replace(found, part=3, parts=3, object_size=1 << 62, object_sha256=DIGEST)
    assert len(encode_line(replace(member, meta=found))) <= line_bound(found)
    assert len(encode_line(member)) <= line_bound(member.meta)


def test_the_bound_of_a_plain_line_is_close() -> None:
    assert line_bound(MEMBER.meta) < len(encode_line(MEMBER)) + 120


def test_a_line_has_the_documented_fields() -> None:
    assert json.loads(encode_line(MEMBER)) == {
        "ordinal": 7,
        "member": "objects/00000007.zst.age",
        "store": "live",
        "key": "a/b",
        "version": None,
        "size": 3,
        "sha256": DIGEST,
        "stored_size": 300,
        "stored_sha256": DIGEST,
        "offset": 512,
        "modified_at": "2012-11-05T09:30:00.250000Z",
        "content_type": None,
        "metadata": {},
    }


def test_a_name_that_is_not_utf8_is_in_base64() -> None:
    line = json.loads(encode_line(replace(MEMBER, meta=meta(b"\xff\n"))))
    assert line["key_b64"] == "/wo="
    assert "key" not in line


@pytest.mark.parametrize(
    "change",
    [
        {"ordinal": "7"},
        {"ordinal": 8},
        {"member": "../../etc/passwd"},
        {"key": 1},
        {"key_b64": "YQ=="},
        {"key": None, "key_b64": "YQ=="},
        {"sha256": DIGEST[:-1]},
        {"offset": -1},
        {"modified_at": "2012-11-05"},
        {"metadata": {"a": 1}},
        {"part": 1},
        {"part": 3, "parts": 2, "object_size": 1},
        {"object_sha256": DIGEST},
    ],
)
def test_a_bad_field_is_corrupt_and_named_by_line(change: dict[str, object]) -> None:
    line = json.loads(encode_line(MEMBER)) | change
    with pytest.raises(CorruptTapeFile, match="line 3"):
        decode_line(json.dumps(line).encode(), "line 3")


@pytest.mark.parametrize("name", sorted(json.loads(encode_line(MEMBER))))
def test_a_missing_field_is_corrupt_and_named(name: str) -> None:
    line = json.loads(encode_line(MEMBER))
    del line[name]
    with pytest.raises(CorruptTapeFile, match=f"line 3.*{name}"):
        decode_line(json.dumps(line).encode(), "line 3")


def test_a_field_of_a_later_minor_version_is_passed_over() -> None:
    line = json.loads(encode_line(MEMBER)) | {"colour": "blue"}
    assert decode_line(json.dumps(line).encode(), "line 1") == MEMBER


def test_an_ordinal_that_comes_twice_or_a_cut_line_is_corrupt() -> None:
    line = encode_line(MEMBER)
    with pytest.raises(CorruptTapeFile, match=r"line 2.*twice"):
        decode_lines([line, line], "INDEX")
    with pytest.raises(CorruptTapeFile, match="line 1 is cut"):
        decode_lines([line[:-1]], "INDEX")


@pytest.mark.parametrize(
    "fields",
    [
        {"modified_at": WHEN.replace(tzinfo=None)},
        {"parts": 2},
        {"part": 1, "parts": 2},
        {"part": 0, "parts": 2, "object_size": 1},
        {"part": 2, "parts": 2, "object_size": 1},
        {"part": 1, "parts": 2, "object_size": 1, "object_sha256": DIGEST},
    ],
)
def test_a_meta_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"part|time zone"):
        replace(meta(), **fields)  # type: ignore[arg-type]  # wrong values are the point
