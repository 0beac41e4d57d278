from restore_lib.catalog import members
from restore_lib.catalog.engine import Catalog
from tests.support.worlds import Cartridge, World, build

WORLD = World(((Cartridge(),) * 4,) * 3, (), recipients=("age1a", "age1b", "age1a"))


def test_sets_tell_their_volumes_and_for_whom_they_are(catalog: Catalog) -> None:
    with catalog.write() as connection:
        build(connection, WORLD, "age1x")
        found = members.members_of(connection, ["set0", "set2"])
        assert [v.barcode for v in found] == [f"S{s}P{p}" for s in (0, 2) for p in range(4)]
        assert members.data_volumes(connection, ["set1", "set9"]) == {"set1": 2}
        written = members.recipients_of(connection, ["set0", "set1"])
        assert written == {"set0": ("age1a",), "set1": ("age1b",)}
        assert members.sets_for(connection, {"age1a"}) == {"set0", "set2"}
        assert members.sets_for(connection, set()) == set()
