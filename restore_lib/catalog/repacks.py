"""Repacks: live payloads on their way from sets that are mostly expired to new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from restore_lib.catalog.stripes import NewTapeFile, add_stripes
from restore_lib.catalog.tables import extents, items, repacks, stripes, volumes
from restore_lib.catalog.tape_sets import TapeSet, tape_set
from restore_lib.errors import InvalidTransition, LeaseLost
from restore_lib.model.extents import NewExtent
from restore_lib.model.states import ItemState

RUNNING = "running"
DONE = "done"
_BEGIN_LOCK = 0x7A9E9AC  # on PostgreSQL, repacks begin one after the other


@dataclass(frozen=True, slots=True)
class Repack:
    """One repack of a policy's sets whose payloads are for the same recipients.

    ``run`` counts how often it was taken up; of several runs only the latest may write.
    """

    id: int
    policy: str
    recipients: tuple[str, ...]
    run: int


class Move(NamedTuple):
    """An extent, the tape file that it lies in until the commit, and where it lies from then on."""

    extent_id: int
    from_set: str
    from_stripe: int
    from_position: int
    to: NewExtent


def running(connection: Connection, policy: str, recipients: Sequence[str]) -> int | None:
    """Return the id of the repack that was begun, and has not ended."""
    query = (
        select(repacks.c.id, repacks.c.recipients)
        .where(repacks.c.state == RUNNING, repacks.c.policy == policy)
        .order_by(repacks.c.id)
    )
    wanted = list(recipients)
    return next((row.id for row in connection.execute(query) if row.recipients == wanted), None)


def unfinished(connection: Connection) -> list[tuple[str, tuple[str, ...]]]:
    """Return (policy, recipients) of the repacks that have not ended."""
    query = select(repacks.c.policy, repacks.c.recipients).where(repacks.c.state == RUNNING)
    rows = connection.execute(query.order_by(repacks.c.id))
    return [(row.policy, tuple(row.recipients)) for row in rows]


def begin_run(
    connection: Connection, policy: str, recipients: Sequence[str], at: datetime
) -> Repack:
    """Begin a repack, or take over the one that has not ended; earlier runs of it are refused."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _BEGIN_LOCK})
    known = running(connection, policy, recipients)
    if known is None:
        values = {
            "policy": policy,
            "recipients": list(recipients),
            "state": RUNNING,
            "run": 0,
            "payloads": 0,
            "bytes": 0,
            "started_at": at,
        }
        made = insert(repacks).values(values).returning(repacks.c.id)
        known = connection.execute(made).scalar_one()
    query = (
        update(repacks)
        .where(repacks.c.id == known)
        .values(run=repacks.c.run + 1)
        .returning(repacks.c.run)
    )
    run: int = connection.execute(query).scalar_one()
    return Repack(known, policy, tuple(recipients), run)


def check_run(connection: Connection, repack: Repack, *, lock: bool = False) -> None:
    """Raise LeaseLost when a later run of the repack has begun, or it has ended.

    With ``lock``, none begins before this transaction ends.
    """
    query = select(repacks.c.run, repacks.c.state).where(repacks.c.id == repack.id)
    row = connection.execute(query.with_for_update() if lock else query).one()
    if (row.run, row.state) != (repack.run, RUNNING):
        raise LeaseLost(f"Another run of repack {repack.id} has taken over.", repack=repack.id)


def hold_set(connection: Connection, repack: Repack, set_id: str) -> None:
    """Keep an open set for a repack, until it is closed or released."""
    connection.execute(update(repacks).where(repacks.c.id == repack.id).values(tape_set=set_id))


def held_set(connection: Connection, repack: Repack) -> TapeSet | None:
    """Return the open set that a repack, or a run of it that was killed, writes to."""
    query = select(repacks.c.tape_set).where(repacks.c.id == repack.id)
    held = connection.execute(query).scalar_one()
    return None if held is None else tape_set(connection, held)


def move_extents(
    connection: Connection,
    repack: Repack,
    to_set: str,
    files: Sequence[NewTapeFile],
    moves: Sequence[Move],
    at: datetime,
) -> None:
    """Let written stripes hold these extents from now on, all or nothing.

    Versions and recovery points stay as they are. InvalidTransition when an extent is not where it
    was read (any more), or when another run has committed to the set meanwhile.
    """
    old = _stripes_of(connection, moves)
    newest = max(old[move.from_set, move.from_stripe][1] for move in moves)
    stripe_ids = add_stripes(connection, newest, to_set, files, at)
    done = connection.execute(
        update(extents)
        .where(
            extents.c.id == bindparam("extent"),
            extents.c.stripe_id == bindparam("from_stripe"),
            extents.c.position == bindparam("from_position"),
        )
        .values(
            stripe_id=bindparam("to_stripe"),
            position=bindparam("to_position"),
            member=bindparam("to_member"),
            offset=bindparam("to_offset"),
        ),
        [
            {
                "extent": move.extent_id,
                "from_stripe": old[move.from_set, move.from_stripe][0],
                "from_position": move.from_position,
                "to_stripe": stripe_ids[move.to.stripe],
                "to_position": move.to.position,
                "to_member": move.to.member,
                "to_offset": move.to.offset,
            }
            for move in moves
        ],
    )
    if done.rowcount != len(moves):
        raise InvalidTransition(
            f"Of {len(moves)} payloads some do not lie any more where they were read.",
            remedy="run the repack again; it starts from what is live then",
        )
    connection.execute(
        update(repacks)
        .where(repacks.c.id == repack.id)
        .values(
            payloads=repacks.c.payloads + len(moves),
            bytes=repacks.c.bytes + sum(move.to.stored_size for move in moves),
        )
    )


def give_back_moved(connection: Connection, batch_id: int, barcodes: Sequence[str]) -> int:
    """Let those items of a restore's batch be planned anew that its volumes don't hold (any more).

    ``barcodes`` are the batch's volumes. Their payloads have been moved to other sets since it was
    planned; that is no failed try. Return how many items these are.
    """
    known = select(volumes.c.tape_set).where(volumes.c.barcode.in_(barcodes))
    sets = [name for name in connection.execute(known).scalars() if name is not None]
    moved = (
        select(items.c.id)
        .join(extents, extents.c.version_id == func.coalesce(items.c.source_id, items.c.version_id))
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .where(
            items.c.batch_id == batch_id,
            items.c.state == ItemState.BATCHED,
            stripes.c.tape_set.not_in(sets),
        )
    )
    done = connection.execute(
        update(items).where(items.c.id.in_(moved)).values(state=ItemState.PENDING, batch_id=None)
    )
    return done.rowcount


def end(connection: Connection, repack: Repack, at: datetime) -> tuple[int, int]:
    """End a repack; return the payloads and stored bytes that it has moved, in all its runs."""
    query = (
        update(repacks)
        .where(repacks.c.id == repack.id)
        .values(state=DONE, ended_at=at)
        .returning(repacks.c.payloads, repacks.c.bytes)
    )
    row = connection.execute(query).one()
    return row.payloads, row.bytes


def _stripes_of(
    connection: Connection, moves: Sequence[Move]
) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (id, recovery point) of the stripes that payloads come from, by set and number."""
    query = select(stripes.c.tape_set, stripes.c.number, stripes.c.id, stripes.c.rp_id).where(
        stripes.c.tape_set.in_({move.from_set for move in moves})
    )
    return {(row.tape_set, row.number): (row.id, row.rp_id) for row in connection.execute(query)}
