"""Tape sets and their members, of many sets at once."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.tables import tape_sets
from restore_lib.catalog.volumes import volumes
from restore_lib.model.volume import Volume


def members_of(connection: Connection, names: Sequence[str]) -> list[Volume]:
    """Return all volumes of these sets."""
    found: list[Volume] = []
    for chunk in chunks(names):
        found += volumes(connection, tape_sets=chunk)
    return found


def data_volumes(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Return how many volumes of each of these sets rebuild the others."""
    found: dict[str, int] = {}
    for chunk in chunks(names):
        query = select(tape_sets.c.id, tape_sets.c.k).where(tape_sets.c.id.in_(chunk))
        found |= {row.id: row.k for row in connection.execute(query)}
    return found


def recipients_of(connection: Connection, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return for whom these sets were written."""
    found: dict[str, tuple[str, ...]] = {}
    for chunk in chunks(names):
        query = select(tape_sets.c.id, tape_sets.c.recipients).where(tape_sets.c.id.in_(chunk))
        found |= {row.id: tuple(row.recipients) for row in connection.execute(query)}
    return found


def sets_for(connection: Connection, recipients: Collection[str]) -> set[str]:
    """Return the sets that were written for one of ``recipients``."""
    query = select(tape_sets.c.id, tape_sets.c.recipients)
    return {
        row.id
        for row in connection.execute(query)
        if not set(row.recipients).isdisjoint(recipients)
    }
