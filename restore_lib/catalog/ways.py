"""The ways back of objects, found in the database: by their own versions, or by copies of them.

A *copy* is another version, of whichever object, that has the same content.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    true,
    update,
)

from restore_lib.catalog.plan_tables import analyze, contents, copies, index_wanted, wanted, ways
from restore_lib.catalog.tables import (
    extent_in_tape_file,
    extents,
    recovery_points,
    stripes,
    tape_files,
    versions,
    volumes,
)
from restore_lib.model.states import ItemState
from restore_lib.model.volume import Content

ABSENT = "?"
"""What stands for the volumes of a version that is not on tape any more."""
_COPIES = 4
"""As many versions of other objects with the same content are looked at."""
_STRIPE = 1 << 40
_WRITTEN = (Content.APPENDABLE, Content.FULL)
_IS_PENDING = wanted.c.state == ItemState.PENDING
_COLUMNS = ["item_id", "version_id", "own", "volumes", "choices", "size", "place", "tries", "error"]


def find_ways(connection: Connection) -> None:
    """Collect the ways back of all that is wanted and pending."""
    index_wanted(connection)
    analyze(connection, wanted)
    _own_ways(connection)
    _never_backed_up(connection)
    _find_copies(connection)
    _ways_over_copies(connection)
    analyze(connection, ways)
    _name_volumes(connection)
    _name_choices(connection)
    analyze(connection, ways)


def _own_ways(connection: Connection) -> None:
    source = func.coalesce(wanted.c.source_id, wanted.c.version_id)
    first, last = func.min(tape_files.c.barcode), func.max(tape_files.c.barcode)
    sole = case((first == last, first), (first.is_(None), ABSENT))
    query = (
        select(
            wanted.c.id,
            source,
            literal(1),
            sole,
            sole,
            func.coalesce(func.sum(extents.c.stored_size), 0),
            func.coalesce(func.min(_place()), 0),
            wanted.c.attempts,
            func.coalesce(wanted.c.error_code, ""),
        )
        .select_from(wanted)
        .outerjoin(extents, extents.c.version_id == source)
        .outerjoin(stripes, stripes.c.id == extents.c.stripe_id)
        .outerjoin(tape_files, extent_in_tape_file)
        .where(_IS_PENDING, wanted.c.version_id.is_not(None))
        .group_by(wanted.c.id)
    )
    connection.execute(insert(ways).from_select(_COLUMNS, query))


def _never_backed_up(connection: Connection) -> None:
    none: list[ColumnElement[Any]] = [null(), literal(1), literal(""), literal("")]
    query = select(
        wanted.c.id,
        *none,
        literal(0),
        literal(0),
        wanted.c.attempts,
        func.coalesce(wanted.c.error_code, ""),
    ).where(_IS_PENDING, wanted.c.version_id.is_(None))
    connection.execute(insert(ways).from_select(_COLUMNS, query))


def _find_copies(connection: Connection) -> None:
    """Note the other versions with the same content, in its order: so each page is read once.

    SQLite forgets the order of a subquery, and has it from a table. Where a copy was to be read so
    far, the object's own version is always one of the others.
    """
    columns = ["item_id", "version_id", "tries", "error"]
    own = select(
        wanted.c.id, wanted.c.version_id, wanted.c.attempts, func.coalesce(wanted.c.error_code, "")
    ).where(_IS_PENDING, wanted.c.source_id != wanted.c.version_id)
    connection.execute(insert(copies).from_select(columns, own))
    sought = (
        select(
            wanted.c.sha256,
            wanted.c.version_id.label("own_id"),
            wanted.c.id.label("item_id"),
            func.coalesce(wanted.c.source_id, wanted.c.version_id).label("version_id"),
            wanted.c.attempts.label("tries"),
            func.coalesce(wanted.c.error_code, "").label("error"),
        )
        .where(_IS_PENDING, wanted.c.version_id.is_not(None))
        .order_by(wanted.c.sha256)
    )
    asked: FromClause
    if connection.dialect.name == "postgresql":
        asked = sought.subquery("asked")
        found = _same_content(asked).lateral("same")
        joined, copy_id = asked.outerjoin(found, true()), found.c.id
    else:
        connection.execute(insert(contents).from_select(sought.selected_columns.keys(), sought))
        asked, other = contents.alias("asked"), versions.alias("other")
        same = other.c.id.in_(_same_content(asked))
        joined = asked.join(other, and_(other.c.sha256 == asked.c.sha256, same))
        copy_id = other.c.id
    query = (
        select(asked.c.item_id, copy_id, asked.c.tries, asked.c.error)
        .select_from(joined)
        .where(
            func.coalesce(copy_id, asked.c.version_id) != asked.c.version_id,
            copy_id != asked.c.own_id,
        )
    )
    connection.execute(insert(copies).from_select(columns, query))
    analyze(connection, copies)


def _ways_over_copies(connection: Connection) -> None:
    """Add the ways over copies that are committed, whole, and not on volumes that are given up."""
    other = versions.alias("other")
    first, last = func.min(volumes.c.barcode), func.max(volumes.c.barcode)
    joined = (
        copies.outerjoin(other, other.c.id == copies.c.version_id)
        .outerjoin(recovery_points, recovery_points.c.id == other.c.first_rp)
        .outerjoin(extents, extents.c.version_id == other.c.id)
        .outerjoin(stripes, stripes.c.id == extents.c.stripe_id)
        .outerjoin(tape_files, extent_in_tape_file)
        .outerjoin(
            volumes,
            and_(volumes.c.barcode == tape_files.c.barcode, volumes.c.content.in_(_WRITTEN)),
        )
    )
    query = (
        select(
            copies.c.item_id,
            copies.c.version_id,
            literal(0),
            case((first == last, first)),
            null(),
            func.sum(extents.c.stored_size),
            func.min(_place()),
            func.min(copies.c.tries),
            func.min(copies.c.error),
        )
        .select_from(joined)
        .group_by(copies.c.item_id, copies.c.version_id)
        .having(
            and_(
                func.count(volumes.c.barcode) == func.min(other.c.parts),
                func.min(recovery_points.c.committed_at).is_not(None),
            )
        )
    )
    connection.execute(insert(ways).from_select(_COLUMNS, query))


def _same_content(asked: FromClause) -> Select[Any]:
    one = versions.alias("one")
    return (
        select(one.c.id)
        .where(one.c.sha256 == asked.c.sha256)
        .order_by(one.c.id)
        .limit(_COPIES + 1)
        .correlate(asked)
    )


def _place() -> Any:
    """Return where an extent lies on its volume, as one number."""
    return stripes.c.number * literal(_STRIPE, BigInteger) + extents.c.offset


def _name_volumes(connection: Connection) -> None:
    """Name the volumes of the ways that lie on several."""
    barcodes = (
        select(tape_files.c.barcode)
        .join(extents, extent_in_tape_file)
        .where(extents.c.version_id == ways.c.version_id)
        .distinct()
        .order_by(tape_files.c.barcode)
        .correlate(ways)
        .subquery()
    )
    named = select(func.aggregate_strings(barcodes.c.barcode, ",")).scalar_subquery()
    connection.execute(update(ways).where(ways.c.volumes.is_(None)).values(volumes=named))


def _name_choices(connection: Connection) -> None:
    """Name the ways of items that have several; over the same volumes the first copy is kept."""
    better = ways.alias("better")
    connection.execute(
        delete(ways).where(
            ways.c.own == 0,
            select(better.c.item_id)
            .where(
                better.c.item_id == ways.c.item_id,
                better.c.own == 0,
                better.c.volumes == ways.c.volumes,
                better.c.version_id < ways.c.version_id,
            )
            .correlate(ways)
            .exists(),
        )
    )
    connection.execute(update(ways).where(ways.c.choices.is_(None)).values(choices=ways.c.volumes))
    others, copies = ways.alias("others"), ways.alias("copies")
    listed = (
        select(others.c.volumes)
        .where(others.c.item_id == ways.c.item_id, others.c.own == 0)
        .order_by(others.c.volumes)
        .correlate(ways)
        .subquery()
    )
    named = select(func.aggregate_strings(listed.c.volumes, "|")).scalar_subquery()
    copied = select(copies.c.item_id).where(copies.c.own == 0)
    connection.execute(
        update(ways)
        .where(ways.c.own == 1, ways.c.item_id.in_(copied))
        .values(choices=ways.c.volumes + literal("|") + named)
    )
