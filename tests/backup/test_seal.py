import hashlib
import os
import pickle
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from restore_lib.backup.pack import pieces
from restore_lib.backup.seal import (
    Sealed,
    Sealer,
    SegmentOrder,
    Selected,
    Written,
    sealing_aside,
)
from restore_lib.config_tables import LocalStoreConfig
from restore_lib.stores.local import LocalStore
from restore_lib.tape.age import load_identities, new_identity
from restore_lib.tape.parity import Rebuilder
from restore_lib.tape.segment_reader import read_index
from tests.support.sites import write_files

PART = 40_000
BLOCK = 512


def orders(folder: Path, live: Path) -> list[SegmentOrder]:
    """Return one order for each piece of each object."""
    listed = LocalStore("live", live).list()
    selected = [Selected(piece, None) for source in listed for piece in pieces(source, PART)]
    return [
        SegmentOrder(folder / f"{number}", 1, number, (one,)) for number, one in enumerate(selected)
    ]


def seal(folder: Path, live: Path, recipient: str, todo: list[SegmentOrder]) -> list[Sealed]:
    config = LocalStoreConfig(kind="local", path=live)
    with sealing_aside("live", config, None, [recipient], BLOCK) as sealing:
        return [future.result() for future in [sealing.seal(order) for order in todo]]


@pytest.fixture
def live(tmp_path: Path) -> Path:
    write_files(tmp_path / "live", {b"a": b"1", b"big": os.urandom(150_000), b"z": b"text" * 5000})
    return tmp_path / "live"


def test_processes_seal_what_this_one_would(tmp_path: Path, live: Path) -> None:
    text, recipient = new_identity()
    (tmp_path / "key").write_text(text)
    sealed = seal(tmp_path, live, recipient, orders(tmp_path, live))
    assert [len(one.extents) for one in sealed] == [1] * 6
    assert all(not one.failures for one in sealed)
    whole = hashlib.sha256((live / "big").read_bytes()).hexdigest()
    assert [one.extents[0].object_sha256 for one in sealed[1:5]] == [None, None, None, whole]
    for one in sealed:
        with one.file.path.open("rb") as segment:
            [member] = read_index(segment, load_identities(tmp_path / "key"))
        assert (member.meta.key, member.sha256) == (
            one.extents[0].source.key,
            one.extents[0].sha256,
        )


def test_orders_and_what_is_written_go_from_process_to_process(tmp_path: Path, live: Path) -> None:
    recipient = new_identity()[1]
    todo = orders(tmp_path, live)
    assert pickle.loads(pickle.dumps(todo)) == todo
    config = LocalStoreConfig(kind="local", path=live)
    with closing(Sealer.opened("live", config, None, [recipient], BLOCK)) as sealer:
        for order in todo:
            written = sealer.write(order)
            handed_over: Written = pickle.loads(pickle.dumps(written))
            [extent] = handed_over.sealed(order).extents
            assert extent == written.sealed(order).extents[0]
            assert extent.source is order.selected[0].piece.source


def test_processes_compute_parity(tmp_path: Path) -> None:
    paths = [tmp_path / "0", tmp_path / "1"]
    for path in paths:
        path.write_bytes(os.urandom(4 * BLOCK))
    config = LocalStoreConfig(kind="local", path=tmp_path)
    recipient = new_identity()[1]
    with sealing_aside("live", config, None, [recipient], BLOCK) as sealing:
        summaries = sealing.protect(paths, [tmp_path / "p"], 8 * BLOCK).result()
    contents = [path.read_bytes() for path in (*paths, tmp_path / "p")]
    assert [one.blocks for one in summaries] == [4, 4, 4]
    assert [one.sha256 for one in summaries] == [hashlib.sha256(c).hexdigest() for c in contents]
    rows = {1: paths[1].read_bytes(), 2: (tmp_path / "p").read_bytes()}
    assert Rebuilder(2, 1, BLOCK).rebuild(rows, [0])[0] == paths[0].read_bytes()


def test_the_rest_of_a_cut_object_that_fails_is_left_out(tmp_path: Path, live: Path) -> None:
    todo = orders(tmp_path, live)
    (live / "big").write_bytes(bytes(70_000))
    sealed = seal(tmp_path, live, new_identity()[1], todo)
    failed = [number for number, one in enumerate(sealed) if one.failures]
    assert failed == [2]
    assert sealed[2].failures.keys() == {b"big"}
    assert [len(one.extents) for one in sealed] == [1, 1, 0, 0, 0, 1]


def test_a_sealing_process_loads_neither_the_catalog_nor_the_settings() -> None:
    code = (
        "import sys; import restore_lib.backup.seal\n"
        "assert not {'sqlalchemy', 'pydantic_settings'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
