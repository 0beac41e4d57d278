"""Small random catalogs, row by row, and what a plan of a restore in them must hold to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from sqlalchemy import Connection, Table, insert, select

from restore_lib.catalog import tables
from restore_lib.catalog.batches import Batch, batches_of
from restore_lib.model.states import ItemState
from restore_lib.model.volume import Content, Custody, Health, vault_place
from tests.support.stripes import AT, DIGEST

K, M = 2, 2
_PLACES = {Custody.MOUNTABLE: "library", Custody.VAULT: vault_place("north")}


@dataclass(frozen=True)
class Cartridge:
    """A volume of a set: what is the matter with it, and where it is."""

    health: Health = Health.OK
    custody: Custody = Custody.MOUNTABLE


@dataclass(frozen=True)
class Version:
    """A version of an object: its content, and the (set, position) of each of its parts."""

    key: int
    content: int
    parts: tuple[tuple[int, int], ...]
    store: str = "live"
    is_committed: bool = True


@dataclass(frozen=True)
class World:
    """Sets of volumes, and versions on them; objects of ``live`` are wanted."""

    sets: tuple[tuple[Cartridge, ...], ...]
    versions: tuple[Version, ...]
    recipients: tuple[str, ...] = ()
    """Of each set; those of the host where none are named."""


@dataclass
class Built:
    """The ids of what was written into a catalog."""

    versions: list[int] = field(default_factory=list)
    point: int = 0


CARTRIDGES = st.builds(
    Cartridge,
    st.sampled_from([Health.OK] * 5 + [Health.SUSPECT, Health.BROKEN, Health.LOST]),
    st.sampled_from([Custody.MOUNTABLE, Custody.VAULT, Custody.ACCLIMATING]),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Return any small world; contents are few, so that there are copies."""
    count = draw(st.integers(1, 3))
    members = st.tuples(*[CARTRIDGES] * (K + M))
    sets = tuple(draw(members) for _ in range(count))
    place = st.tuples(st.integers(0, count - 1), st.integers(0, K - 1))
    parts = st.lists(place, min_size=1, max_size=3).map(tuple)
    versions = [
        Version(key, draw(st.integers(0, 3)), draw(parts)) for key in range(draw(st.integers(1, 6)))
    ]
    versions += [
        Version(key, draw(st.integers(0, 3)), draw(parts), "mirror", draw(st.booleans()))
        for key in range(draw(st.integers(0, 3)))
    ]
    return World(sets, tuple(versions))


def barcode(number: int, position: int) -> str:
    """Return the name of a volume of a world."""
    return f"S{number}P{position}"


def build(connection: Connection, world: World, recipient: str) -> Built:
    """Write a world into an empty catalog."""
    built = Built()
    points = {
        (store, is_committed): _point(connection, store, is_committed=is_committed)
        for store in ("mirror", "live")
        for is_committed in (False, True)
    }
    built.point = points["live", True]
    for number, cartridges in enumerate(world.sets):
        names = world.recipients or [recipient] * len(world.sets)
        _tape_set(connection, number, cartridges, names[number], built.point)
    for number, version in enumerate(world.versions):
        point = points[version.store, version.is_committed]
        built.versions.append(_version(connection, number, version, point))
    return built


def check_sound(connection: Connection, world: World, built: Built, request_id: int) -> None:
    """Assert that each wanted object is in one batch that can bring it back, or named as lost."""
    planned = {batch.id: batch for batch in batches_of(connection, request_id=request_id)}
    counted = dict.fromkeys(planned, 0)
    rows = list(
        connection.execute(select(tables.items).where(tables.items.c.request_id == request_id))
    )
    wanted = [number for number, v in enumerate(world.versions) if v.store == "live"]
    assert sorted(row.version_id for row in rows) == sorted(built.versions[n] for n in wanted)
    for row in rows:
        number = built.versions.index(row.version_id)
        if row.state == ItemState.UNRESTORABLE:
            assert row.batch_id is None
            assert not any(_is_restorable(world, v) for v in _same(world, number))
            continue
        assert row.state == ItemState.BATCHED
        counted[row.batch_id] += 1
        read = world.versions[built.versions.index(row.source_id or row.version_id)]
        assert read in _same(world, number)
        _check_batch(world, planned[row.batch_id], read)
    assert counted == {batch.id: batch.objects for batch in planned.values()}


def _check_batch(world: World, batch: Batch, version: Version) -> None:
    for name in batch.volumes:
        cartridge = world.sets[int(name[1])][int(name[3])]
        assert cartridge.health in {Health.OK, Health.SUSPECT}
    for number, position in version.parts:
        in_set = [name for name in batch.volumes if name.startswith(f"S{number}P")]
        assert barcode(number, position) in batch.volumes or len(in_set) >= K
    assert len(set(batch.volumes)) == len(batch.volumes)


def _same(world: World, number: int) -> Sequence[Version]:
    own = world.versions[number]
    return [v for v in world.versions if v is own or (v.content == own.content and v.is_committed)]


def _is_restorable(world: World, version: Version) -> bool:
    for number, position in version.parts:
        sound = [c.health in {Health.OK, Health.SUSPECT} for c in world.sets[number]]
        if not sound[position] and sum(sound) < K:
            return False
    return True


def _point(connection: Connection, store: str, *, is_committed: bool) -> int:
    row: dict[str, object] = {
        "policy": "live",
        "store": store,
        "state": "committed" if is_committed else "open",
        "started_at": AT,
        "committed_at": AT if is_committed else None,
        "summary": {},
    }
    return _insert(connection, tables.recovery_points, row)


def _insert(connection: Connection, table: Table, row: Mapping[str, object]) -> int:
    returning = insert(table).values(row).returning(table.c.id)
    return int(connection.execute(returning).scalar_one())


def _tape_set(
    connection: Connection,
    number: int,
    cartridges: Sequence[Cartridge],
    recipient: str,
    point: int,
) -> None:
    name = f"set{number}"
    row: dict[str, object] = {
        "id": name,
        "policy": "live",
        "k": K,
        "m": M,
        "block_size": 4096,
        "recipients": [recipient],
        "state": "closed",
        "stripes": 1,
        "created_at": AT,
    }
    connection.execute(insert(tables.tape_sets), [row])
    stripe = {"tape_set": name, "number": 1, "rp_id": point, "rows": 1, "committed_at": AT}
    stripe_id = _insert(connection, tables.stripes, stripe)
    for position, cartridge in enumerate(cartridges):
        volume = {
            "barcode": barcode(number, position),
            "tape_set": name,
            "position": position,
            "content": Content.FULL,
            "health": cartridge.health,
            "custody": cartridge.custody,
            "flags": [],
            "place": _PLACES.get(cartridge.custody, "dock"),
        }
        connection.execute(insert(tables.volumes), [volume])
        file = {
            "stripe_id": stripe_id,
            "position": position,
            "barcode": barcode(number, position),
            "blocks": 9,
            "sha256": DIGEST,
        }
        connection.execute(insert(tables.tape_files), [file])


def _version(connection: Connection, number: int, version: Version, point: int) -> int:
    object_id = _insert(
        connection, tables.objects, {"store": version.store, "key": b"o%d" % number}
    )
    digest = f"{version.content:064x}"
    version_id = _insert(
        connection,
        tables.versions,
        {
            "object_id": object_id,
            "first_rp": point,
            "size": 100 + version.content,
            "sha256": digest,
            "modified_at": AT,
            "metadata": {},
            "parts": len(version.parts),
        },
    )
    for part, (tape_set, position) in enumerate(version.parts, 1):
        stripe = select(tables.stripes.c.id).where(tables.stripes.c.tape_set == f"set{tape_set}")
        extent = {
            "version_id": version_id,
            "part": part,
            "stripe_id": connection.execute(stripe).scalar_one(),
            "position": position,
            "member": "m",
            "offset": 512 * number + part,
            "size": 100,
            "sha256": digest,
            "stored_size": 300,
            "stored_sha256": digest,
        }
        connection.execute(insert(tables.extents), [extent])
    return version_id
