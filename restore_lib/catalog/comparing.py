"""What two catalogs have to agree on when they tell of the same tapes."""

import json
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, select

from restore_lib.catalog.bulk import CHUNK
from restore_lib.catalog.tables import (
    extents,
    objects,
    stripes,
    tape_files,
    tape_sets,
    versions,
    volumes,
)
from restore_lib.model.objects import display_key
from restore_lib.model.states import SetState

CLOSED = "closed set"
ETAG = "change token"
ONE_SIDED = frozenset({CLOSED, ETAG})
"""Kinds of facts that tapes may not tell: a catalog that has them more is no difference."""

Fact = tuple[str, str, str]


def facts(connection: Connection, without: Collection[str] = ()) -> Iterator[Fact]:
    """Yield (kind, name, value) of all that a catalog knows and that tapes tell too, streaming.

    Nothing of the sets ``without``.
    """
    yield from _sets(connection, without)
    yield from _volumes(connection, without)
    yield from _files(connection, without)
    yield from _members(connection, without)


def reclaimed_sets(connection: Connection) -> list[str]:
    """Return the sets of which a catalog has forgotten what they hold, or is about to."""
    states = (SetState.RECLAIMING, SetState.RECLAIMED)
    query = select(tape_sets.c.id).where(tape_sets.c.state.in_(states))
    return list(connection.execute(query.order_by(tape_sets.c.id)).scalars())


def _sets(connection: Connection, without: Collection[str]) -> Iterator[Fact]:
    c = tape_sets.c
    for row in connection.execute(select(tape_sets).where(c.stripes > 0)):
        if row.id in without:
            continue
        shape = [row.policy, row.k, row.m, row.block_size, row.recipients, row.stripes]
        yield "tape set", row.id, json.dumps([*shape, row.created_at.isoformat()])
        if row.state != SetState.OPEN:
            yield CLOSED, row.id, "closed"


def _volumes(connection: Connection, without: Collection[str]) -> Iterator[Fact]:
    used = select(volumes).where(volumes.c.files > 0, volumes.c.tape_set.is_not(None))
    for row in connection.execute(used):
        if row.tape_set not in without:
            value = [row.tape_set, row.position, row.files, row.bytes]
            yield "volume", row.barcode, json.dumps(value)


def _files(connection: Connection, without: Collection[str]) -> Iterator[Fact]:
    query = select(stripes.c.tape_set, stripes.c.number, stripes.c.rows, tape_files).join(
        stripes, stripes.c.id == tape_files.c.stripe_id
    )
    for row in _stream(connection, query):
        if row.tape_set in without:
            continue
        name = f"{row.tape_set}, position {row.position}, tape file {row.number}"
        value = [row.barcode, row.blocks, row.sha256, row.index_offset, row.rows]
        yield "tape file", name, json.dumps(value)


def _members(connection: Connection, without: Collection[str]) -> Iterator[Fact]:
    query = (
        select(
            stripes.c.tape_set,
            stripes.c.number,
            extents,
            objects.c.store,
            objects.c.key,
            versions.c.store_version,
            versions.c.etag,
            versions.c.size.label("whole_size"),
            versions.c.sha256.label("whole_sha256"),
            versions.c.modified_at,
            versions.c.content_type,
            versions.c.metadata,
            versions.c.parts,
        )
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .join(versions, versions.c.id == extents.c.version_id)
        .join(objects, objects.c.id == versions.c.object_id)
    )
    for row in _stream(connection, query):
        if row.tape_set in without:
            continue
        key = bytes(row.key)
        where = f"{row.tape_set}, position {row.position}, tape file {row.number}, {row.member}"
        value = [row.store, display_key(key), key.hex(), row.store_version, row.part, row.parts]
        value += [row.offset, row.size, row.sha256, row.stored_size, row.stored_sha256]
        value += [row.whole_size, row.whole_sha256, row.modified_at.isoformat()]
        value += [row.content_type, row.metadata]
        yield "object", where, json.dumps(value, sort_keys=True)
        if row.etag is not None:
            yield ETAG, where, json.dumps(row.etag)


def _stream(connection: Connection, query: Any) -> Iterator[Any]:
    return iter(connection.execute(query.execution_options(yield_per=CHUNK)))
