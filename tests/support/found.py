"""Findings of a rebuild, as reading tapes would have noted them."""

import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from restore_lib.catalog.findings import Findings, Found, FoundFile, FoundVolume
from restore_lib.tape.label import Label
from restore_lib.tape.members import Member, MemberMeta

AT = datetime(2030, 1, 1, tzinfo=UTC)
DIGEST = "ab" * 32


def label(tape_set: str = "live-00001", position: int = 0, *, day: int = 0) -> Label:
    """Return the label of a volume of a set of 1+1; ``day`` is when the set was made."""
    return Label(
        barcode=f"{tape_set[-5:]}-{position}",
        cluster="test",
        tape_set=tape_set,
        k=1,
        m=1,
        position=position,
        block_size=512,
        created_at=AT + timedelta(days=day),
        recipients=("age1x",),
    )


def member(
    ordinal: int, key: bytes, *, hour: int = 0, part: int = 1, parts: int = 1, etag: str = "e"
) -> Member:
    """Return a member that holds (a part of) the version of ``key`` of this hour.

    As stored no two are alike, since encryption is never the same twice.
    """
    digest = sha256(b"%s %d" % (key, hour)).hexdigest()
    cut = parts > 1
    meta = MemberMeta(
        "live",
        key,
        None,
        AT + timedelta(hours=hour),
        metadata={"mode": "0644"},
        part=part if cut else None,
        parts=parts if cut else None,
        object_size=10 * parts if cut else None,
        object_sha256=digest if cut and part == parts else None,
        etag=etag,
    )
    size = 10
    offset = 512 + 1024 * ordinal
    return Member(ordinal, False, size, digest, 200, os.urandom(32).hex(), offset, meta)


def note_set(
    path: Path, segments: list[list[Member]], tape_set: str = "live-00001", *, day: int = 0
) -> Findings:
    """Note a mirrored set with these segments, read from both of its volumes."""
    findings = Findings(path)
    for position in (0, 1):
        held = label(tape_set, position, day=day)
        findings.note_label(held)
        for stripe, members in enumerate(segments, 1):
            file = FoundFile(stripe, position, 4, DIGEST)
            if position:
                findings.note_file(tape_set, file)
            else:
                findings.note_segment(tape_set, file, 1024, members)
        findings.note_volume(
            FoundVolume(held.barcode, Found.READ, tape_set, position, len(segments))
        )
    return findings
