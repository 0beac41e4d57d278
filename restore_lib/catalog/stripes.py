"""What a committed stripe holds: versions of objects, extents and tape files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from restore_lib.catalog.bulk import chunks, insert_rows
from restore_lib.catalog.recovery_points import mark_gone
from restore_lib.catalog.tables import (
    extents,
    objects,
    stripes,
    tape_files,
    tape_sets,
    versions,
)
from restore_lib.errors import InvalidTransition
from restore_lib.model.extents import NewExtent


@dataclass(frozen=True, slots=True)
class NewTapeFile:
    """One written tape file: its volume, its length in blocks and its digest."""

    stripe: int
    position: int
    barcode: str
    blocks: int
    sha256: str
    index_offset: int | None


def commit_stripes(
    connection: Connection,
    *,
    rp_id: int,
    store: str,
    tape_set: str,
    files: Sequence[NewTapeFile],
    new: Sequence[NewExtent],
    started: Mapping[bytes, int],
    at: datetime,
) -> dict[bytes, int]:
    """Make written stripes visible, all or nothing.

    ``started`` maps the keys of cut objects whose first parts are in already to their version ids;
    the same mapping for those whose last parts are still to come is returned. InvalidTransition
    when another run of the job has committed to the set meanwhile.
    """
    stripe_ids = add_stripes(connection, rp_id, tape_set, files, at)
    first_parts = [extent for extent in new if extent.part == 1]
    ended = [extent for extent in new if extent.part == extent.parts]
    mark_gone(connection, [e.replaces for e in ended if e.replaces is not None], rp_id)
    version_ids = dict(started) | _add_versions(connection, rp_id, store, first_parts)
    _add_extents(connection, new, version_ids, stripe_ids)
    _end_cut_objects(connection, new, version_ids)
    last_parts = {e.source.key: e.part == e.parts for e in new}
    pending = dict.fromkeys(started, False) | last_parts
    return {key: version_ids[key] for key, ended in pending.items() if not ended}


def add_stripes(
    connection: Connection,
    rp_id: int,
    tape_set: str,
    files: Sequence[NewTapeFile],
    at: datetime,
) -> dict[int, int]:
    """Append written stripes to a set, and return their ids by number.

    InvalidTransition when another run has committed to the set meanwhile.
    """
    _advance_set(connection, tape_set, sorted({file.stripe for file in files}))
    return _add_stripes(connection, rp_id, tape_set, files, at)


def blocks_of_files(connection: Connection, barcode: str, set_id: str) -> dict[int, int]:
    """Return the length in blocks of each tape file behind the label of a volume of a set."""
    query = (
        select(stripes.c.number, tape_files.c.blocks)
        .join(stripes, stripes.c.id == tape_files.c.stripe_id)
        .where(tape_files.c.barcode == barcode, stripes.c.tape_set == set_id)
    )
    return {row.number: row.blocks for row in connection.execute(query)}


def _advance_set(connection: Connection, tape_set: str, numbers: Sequence[int]) -> None:
    done = connection.execute(
        update(tape_sets)
        .where(tape_sets.c.id == tape_set, tape_sets.c.stripes == numbers[0] - 1)
        .values(stripes=numbers[-1])
    )
    if done.rowcount != 1:
        raise InvalidTransition(
            f"Tape set {tape_set} does not end at stripe {numbers[0] - 1} any more.",
            remedy="run the job again; it starts from what is committed",
        )


def _add_stripes(
    connection: Connection,
    rp_id: int,
    tape_set: str,
    files: Sequence[NewTapeFile],
    at: datetime,
) -> dict[int, int]:
    numbers = sorted({file.stripe for file in files})
    rows = [
        {
            "tape_set": tape_set,
            "number": number,
            "rp_id": rp_id,
            "rows": max(file.blocks for file in files if file.stripe == number),
            "committed_at": at,
        }
        for number in numbers
    ]
    made = insert(stripes).returning(stripes.c.number, stripes.c.id)
    ids = {row.number: row.id for row in connection.execute(made, rows)}
    connection.execute(
        insert(tape_files),
        [
            {
                "stripe_id": ids[file.stripe],
                "position": file.position,
                "barcode": file.barcode,
                "blocks": file.blocks,
                "sha256": file.sha256,
                "index_offset": file.index_offset,
            }
            for file in files
        ],
    )
    return ids


def _add_versions(
    connection: Connection, rp_id: int, store: str, first_parts: Sequence[NewExtent]
) -> dict[bytes, int]:
    if not first_parts:
        return {}
    object_ids = _object_ids(connection, store, [extent.source.key for extent in first_parts])
    sources = [extent.source for extent in first_parts]
    made = insert_rows(
        connection,
        versions,
        {
            "object_id": [object_ids[source.key] for source in sources],
            "first_rp": [rp_id] * len(sources),
            "store_version": [source.version for source in sources],
            "etag": [source.etag for source in sources],
            "size": [source.size for source in sources],
            "sha256": [e.object_sha256 if e.parts == 1 else None for e in first_parts],
            "modified_at": [source.modified_at for source in sources],
            "content_type": [source.content_type for source in sources],
            "metadata": [dict(source.metadata) for source in sources],
            "parts": [extent.parts for extent in first_parts],
        },
        returning=("object_id", "id"),
    )
    version_ids: dict[int, int] = dict(made)
    return {key: version_ids[object_id] for key, object_id in object_ids.items()}


def _object_ids(connection: Connection, store: str, keys: Sequence[bytes]) -> dict[bytes, int]:
    """Return the ids of the objects of these names, inserting those not known yet."""
    insert_rows(connection, objects, {"store": [store] * len(keys), "key": keys}, skip_known=True)
    ids: dict[bytes, int] = {}
    for chunk in chunks(keys):
        query = select(objects.c.key, objects.c.id).where(
            objects.c.store == store, objects.c.key.in_(chunk)
        )
        ids.update({bytes(row.key): row.id for row in connection.execute(query)})
    return ids


def _add_extents(
    connection: Connection,
    new: Sequence[NewExtent],
    version_ids: Mapping[bytes, int],
    stripe_ids: Mapping[int, int],
) -> None:
    insert_rows(
        connection,
        extents,
        {
            "version_id": [version_ids[extent.source.key] for extent in new],
            "part": [extent.part for extent in new],
            "stripe_id": [stripe_ids[extent.stripe] for extent in new],
            "position": [extent.position for extent in new],
            "member": [extent.member for extent in new],
            "offset": [extent.offset for extent in new],
            "size": [extent.size for extent in new],
            "sha256": [extent.sha256 for extent in new],
            "stored_size": [extent.stored_size for extent in new],
            "stored_sha256": [extent.stored_sha256 for extent in new],
        },
    )


def _end_cut_objects(
    connection: Connection, new: Sequence[NewExtent], version_ids: Mapping[bytes, int]
) -> None:
    ended = [
        {"version": version_ids[extent.source.key], "digest": extent.object_sha256}
        for extent in new
        if extent.part == extent.parts > 1
    ]
    if ended:
        connection.execute(
            update(versions)
            .where(versions.c.id == bindparam("version"))
            .values(sha256=bindparam("digest")),
            ended,
        )
