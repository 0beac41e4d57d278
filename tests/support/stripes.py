"""Committed backups in a catalog, by its own functions, without any tape behind."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256

from sqlalchemy import Connection

from restore_lib.catalog import recovery_points, stripes, tape_sets, volumes
from restore_lib.catalog.stripes import NewTapeFile
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.model.extents import NewExtent
from restore_lib.model.objects import StoredObject

AT = datetime(2030, 1, 1, tzinfo=UTC)
DIGEST = "ab" * 32


def stored(key: bytes, data: bytes = b"", **values: object) -> StoredObject:
    """Return an object as a store lists it."""
    fields = {"size": len(data), "modified_at": AT} | values
    return StoredObject(key=key, **fields)  # type: ignore[arg-type]  # a test's shorthand


def extent(source: StoredObject, data: bytes = b"", **values: object) -> NewExtent:
    """Return a new extent of a whole object, but for what ``values`` say."""
    digest = sha256(data).hexdigest()
    fields: dict[str, object] = {
        "part": 1,
        "parts": 1,
        "object_sha256": digest,
        "position": 0,
        "stripe": 1,
        "member": "objects/00000000.age",
        "offset": 512,
        "size": len(data),
        "sha256": digest,
        "stored_size": len(data) + 200,
        "stored_sha256": DIGEST,
        "replaces": None,
    }
    return NewExtent(source=source, **(fields | values))  # type: ignore[arg-type]  # as above


def tape_files(held: TapeSet, *numbers: int, blocks: int = 10) -> list[NewTapeFile]:
    """Return the tape files of some stripes of a set."""
    return [
        NewTapeFile(number, position, barcode, blocks, DIGEST, 1024 if position < held.k else None)
        for number in numbers
        for position, barcode in enumerate(held.barcodes)
    ]


def begin(
    connection: Connection, shares: Sequence[tuple[bytes | None, bytes | None]] = ((None, None),)
) -> tuple[int, list[int]]:
    """Begin a recovery point of the store ``live``; return its id and those of its jobs."""
    rp_id = recovery_points.begin_recovery_point(connection, "gold", "live", AT)
    recovery_points.add_jobs(connection, rp_id, [(after, until, 1, 1) for after, until in shares])
    return rp_id, [job.id for job in recovery_points.jobs_of(connection, rp_id)]


def new_set(connection: Connection, job_id: int, k: int = 2, m: int = 1) -> TapeSet:
    """Make a tape set of new blank volumes."""
    known = len(volumes.volumes(connection))
    names = [f"V{known + number:05}" for number in range(k + m)]
    volumes.add_blank(connection, names, actor="test", at=AT)
    return tape_sets.create_set(
        connection,
        policy="gold",
        k=k,
        m=m,
        block_size=4096,
        recipients=["age1x"],
        job_id=job_id,
        at=AT,
    )


def back_up(
    connection: Connection,
    contents: Mapping[bytes, bytes],
    *,
    gone: Sequence[bytes] = (),
    k: int = 2,
    m: int = 1,
) -> tuple[int, TapeSet]:
    """Commit a recovery point with one stripe of new versions, spread over its data volumes."""
    rp_id, [job_id] = begin(connection)
    held = new_set(connection, job_id, k, m)
    live = {v.key: v.id for v in recovery_points.live_versions(connection, "live", None, None)}
    extents = [
        extent(
            stored(key, data, etag=sha256(data).hexdigest()[:8]),
            data,
            position=number % k,
            offset=512 * (1 + number),
            replaces=live.get(key),
        )
        for number, (key, data) in enumerate(sorted(contents.items()))
    ]
    stripes.commit_stripes(
        connection,
        rp_id=rp_id,
        store="live",
        tape_set=held.id,
        files=tape_files(held, 1),
        new=extents,
        started={},
        at=AT,
    )
    recovery_points.mark_gone(connection, [live[key] for key in gone], rp_id)
    recovery_points.end_job(connection, job_id, {})
    recovery_points.commit_recovery_point(connection, rp_id, AT, {})
    return rp_id, tape_sets.tape_set(connection, held.id)
