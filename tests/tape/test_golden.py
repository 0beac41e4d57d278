"""Images that former versions of the format wrote are read by this one; see scripts/make-golden."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from restore_lib.errors import EndOfData, UnknownFormat
from restore_lib.tape.age import Identity, load_identities
from restore_lib.tape.label import FORMAT
from restore_lib.tape.members import Member
from restore_lib.tape.mounted import blocks, read_label
from restore_lib.tape.parity import Rebuilder
from restore_lib.tape.payload import restore_payload
from restore_lib.tape.segment_reader import decode_index, read_index, verify_segment
from restore_lib.tape.volume_index import (
    StripeTable,
    decode_stripe_table,
    read_volume_index,
)
from tests import independent_reader
from tests.support.golden import make
from tests.support.programs import require_program
from tests.support.tape_sets import ImageDrive

GOLDEN = Path(__file__).parents[1] / "golden"
SETS = sorted(path for path in GOLDEN.glob("format-*/*") if path.is_dir())
Files = dict[int, list[bytes]]


@pytest.fixture(params=SETS, ids=lambda path: "-".join(path.parts[-2:]))
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder of one golden set."""
    assert isinstance(request.param, Path)
    return request.param


def shape(golden: Path) -> Mapping[str, Any]:
    """Return k, m, block_size, stripes and open_positions."""
    found: Mapping[str, Any] = json.loads((golden / "set.json").read_text())
    return found


def expected(golden: Path) -> list[tuple[bytes, str | None, str, int, str]]:
    """Return name, version, time, size and digest of each object."""
    lines = map(json.loads, (golden / "objects.jsonl").read_text().splitlines())
    return sorted(
        (
            base64.b64decode(line["key_b64"]),
            line["version"] or "",
            line["modified_at"],
            line["size"],
            line["sha256"],
        )
        for line in lines
    )


def identities(golden: Path) -> list[Identity]:
    return load_identities(golden / "key.txt")


def drives(golden: Path) -> Iterator[ImageDrive]:
    for path in sorted(golden.glob("*.tap")):
        yield ImageDrive(path)


def tape_files(golden: Path) -> Files:
    """Return the whole tape files behind each label, by position."""
    found: Files = {}
    for drive in drives(golden):
        label = read_label(drive)
        assert label is not None
        files = found.setdefault(label.position, [])
        try:
            while True:
                files.append(b"".join(blocks(drive)))
        except EndOfData:
            drive.close()
    return found


def table_of(golden: Path, files: Files) -> StripeTable:
    """Return the stripe table of a closed parity volume."""
    about = shape(golden)
    [position, *_] = set(range(about["k"], about["k"] + about["m"])) - set(about["open_positions"])
    return decode_stripe_table(io.BytesIO(files[position][-1]))


def test_there_are_images_of_every_version_of_the_format() -> None:
    assert {path.parent.name for path in SETS} == {f"format-{n}" for n in range(1, FORMAT + 1)}
    images = [path for path in GOLDEN.rglob("*") if path.is_file()]
    assert 50_000 < sum(path.stat().st_size for path in images) < 300_000


def test_labels_are_read(golden: Path) -> None:
    about = shape(golden)
    for position, drive in enumerate(drives(golden)):
        label = read_label(drive)
        assert label is not None
        assert (label.position, label.k, label.m) == (position, about["k"], about["m"])
        assert label.barcode == drive.barcode()
        assert label.block_size == about["block_size"]
        assert [identity.recipient for identity in identities(golden)] == list(label.recipients)


def test_every_object_is_read_from_its_segment(golden: Path) -> None:
    about, files = shape(golden), tape_files(golden)
    whole: dict[tuple[bytes, str, str], dict[int, tuple[Member, bytes]]] = {}
    for position in range(about["k"]):
        for number in range(about["stripes"]):
            segment = files[position][number]
            assert verify_segment([segment]).ok
            for member in read_index(io.BytesIO(segment), identities(golden)):
                stored = segment[member.offset : member.offset + member.stored_size]
                plain = io.BytesIO()
                restore_payload(member, io.BytesIO(stored), plain, identities(golden))
                meta = member.meta
                name = (meta.key, meta.version or "", meta.modified_at.isoformat())
                whole.setdefault(name, {})[meta.part or 1] = member, plain.getvalue()
    found = []
    for name, parts in whole.items():
        last, _ = parts[max(parts)]
        assert sorted(parts) == list(range(1, (last.meta.parts or 1) + 1))
        data = b"".join(parts[part][1] for part in sorted(parts))
        digest = hashlib.sha256(data).hexdigest()
        assert digest == (last.meta.object_sha256 or last.sha256)
        found.append((*name, len(data), digest))
    assert sorted(found) == expected(golden)


def test_what_the_store_told_is_read(golden: Path) -> None:
    lines = map(json.loads, (golden / "objects.jsonl").read_text().splitlines())
    wanted = {
        (line["key_b64"], line["content_type"], line["etag"], json.dumps(line["metadata"]))
        for line in lines
    }
    assert len({etag for _, _, etag, _ in wanted}) == 2
    files, found = tape_files(golden), set()
    for position in range(shape(golden)["k"]):
        for segment in files[position][: shape(golden)["stripes"]]:
            for member in read_index(io.BytesIO(segment), identities(golden)):
                meta = member.meta
                key = base64.b64encode(meta.key).decode()
                found.add((key, meta.content_type, meta.etag, json.dumps(dict(meta.metadata))))
    assert found == wanted


def test_closing_tape_files_are_read_and_open_volumes_have_none(golden: Path) -> None:
    about, files = shape(golden), tape_files(golden)
    table = table_of(golden, files)
    assert len(table.stripes) == about["stripes"]
    for position, found in files.items():
        closed = position not in about["open_positions"]
        assert len(found) == about["stripes"] + closed
        mine = [stripe.members[position] for stripe in table.stripes]
        for member, data in zip(mine, found, strict=False):
            assert (member.position, member.blocks) == (position, len(data) // about["block_size"])
            assert member.sha256 == hashlib.sha256(data).hexdigest()
        if closed and position < about["k"]:
            index, sealed = read_volume_index(io.BytesIO(found[-1]))
            assert [file.sha256 for file in index.files] == [member.sha256 for member in mine]
            for file, data in sealed:
                members = decode_index(io.BytesIO(data), identities(golden), what="index")
                assert members == read_index(io.BytesIO(found[file - 1]), identities(golden))


def test_a_volume_that_was_never_closed_ends_in_a_torn_record(golden: Path) -> None:
    [position, *_] = shape(golden)["open_positions"]
    drive = list(drives(golden))[position]
    end = drive.space_to_end()
    assert (end.file, end.block) == (shape(golden)["stripes"] + 1, 1)
    drive.locate(end.file, 1)
    with pytest.raises(EndOfData):
        drive.read()


def test_m_lost_volumes_are_rebuilt_from_any_k_others(golden: Path) -> None:
    about, files = shape(golden), tape_files(golden)
    k, m, size = about["k"], about["m"], about["block_size"]
    rebuilder = Rebuilder(k, m, size)
    for first in range(k + m):
        lost = {(first + step) % (k + m) for step in range(m)}
        for stripe in table_of(golden, files).stripes:
            length = max(member.blocks for member in stripe.members) * size
            row = {
                position: files[position][stripe.stripe - 1].ljust(length, b"\0")
                for position in set(files) - lost
            }
            for position, data in rebuilder.rebuild(row, sorted(lost)).items():
                member = stripe.members[position]
                whole = data[: member.blocks * size]
                assert hashlib.sha256(whole).hexdigest() == member.sha256


def test_the_independent_reader_reads_them_too(golden: Path, tmp_path: Path) -> None:
    for name in ("age", "zstd"):
        require_program(name)
    images = sorted(map(str, golden.glob("*.tap")))
    assert independent_reader.main(str(golden / "key.txt"), str(tmp_path), *images) == 0
    lines = map(json.loads, (tmp_path / "objects.jsonl").read_text().splitlines())
    digests = {hashlib.sha256((tmp_path / line["file"]).read_bytes()).hexdigest() for line in lines}
    assert digests == {digest for *_, digest in expected(golden)}


def test_unknown_versions_are_refused_by_name(golden: Path, tmp_path: Path) -> None:
    later = b'"format":%d' % (FORMAT + 1)
    for path in golden.glob("*.tap"):
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data.replace(b'"format":%d' % FORMAT, later))
        with pytest.raises(UnknownFormat, match=f"format {FORMAT + 1}; this code reads {FORMAT}"):
            read_label(ImageDrive(tmp_path / path.name))


def test_the_script_makes_what_is_kept(tmp_path: Path) -> None:
    make(tmp_path)
    made = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*.*")}
    kept = {p.relative_to(GOLDEN): p for p in GOLDEN.glob(f"format-{FORMAT}/**/*.*")}
    assert set(made) == set(kept)
    for name, path in made.items():
        if path.suffix in {".json", ".jsonl"}:
            assert path.read_bytes() == kept[name].read_bytes()
