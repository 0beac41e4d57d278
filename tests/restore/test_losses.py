"""Any objects, any geometry, any loss of volumes: what comes back, and what is named."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restore_lib.catalog.batches import BatchExtent
from restore_lib.library.base import Drive
from restore_lib.model.volume import Content, Custody, Health, Volume
from restore_lib.restore.gather import Gathered, SetShape, Sourcing
from restore_lib.restore.plan import Limits, Planner
from restore_lib.restore.read import TapeReader
from restore_lib.tape.age import Identity, Recipients, load_identities, new_identity
from restore_lib.tape.payload import restore_payload
from restore_lib.tape.streams import BlockReader
from tests.support.plans import Need, Planned, PlannedBatch, plan_needs
from tests.support.tape_sets import (
    SET,
    ImageDrive,
    Payload,
    Shape,
    Source,
    TapeSet,
    source,
    write_set,
)

HEALTHS = [Health.BROKEN, Health.LOST, Health.DISABLED, Health.DESTROYED]
KEYS = st.binary(min_size=1, max_size=40) | st.text(min_size=1, max_size=20).map(
    lambda text: text.encode("utf-8", "replace")
)
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.builds(bytes, st.integers(0, 6000)),
    st.builds(lambda seed, size: Random(seed).randbytes(size), st.integers(), st.integers(0, 6000)),
)


@dataclass(frozen=True)
class Key:
    """One key pair for all examples."""

    recipients: Recipients
    identities: list[Identity]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    text, recipient = new_identity()
    path = tmp_path_factory.mktemp("key") / "key.txt"
    path.write_text(text)
    return Key(Recipients.parse([recipient]), load_identities(path))


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    k, m = draw(st.integers(1, 6)), draw(st.integers(0, 4))
    return Shape(
        k,
        m,
        draw(st.sampled_from([512, 1024, 4096])),
        stripes=draw(st.integers(1, 3)),
        cut=draw(st.sampled_from([100, 1500, 1 << 20])),
    )


SOURCES = st.dictionaries(KEYS, CONTENTS, max_size=8).map(
    lambda objects: [source(name, data) for name, data in objects.items()]
)


class Tapes:
    """A set on tape images, some of which are lost, and the production code that restores it."""

    def __init__(self, folder: Path, made: TapeSet, lost: Mapping[int, Health], key: Key) -> None:
        self._folder = folder
        self._made = made
        self._key = key
        self._volumes = [
            Volume(
                barcode=label.barcode,
                tape_set=SET,
                position=label.position,
                content=Content.FULL,
                health=lost.get(label.position, Health.OK),
                custody=Custody.MOUNTABLE,
                flags=frozenset(),
                place="library",
                files=made.shape.stripes,
                bytes=0,
                verified_at=None,
                ready_at=None,
            )
            for label in made.labels
        ]
        for label in made.labels:
            if label.position not in lost:
                (folder / f"{label.barcode}.tap").write_bytes(made.image(label.position))

    def plan(self) -> Planned:
        """Plan the restore of every object."""
        needs = [
            Need(
                item_id=one.source,
                attempts=0,
                last_error=None,
                barcode=self._made.labels[one.position].barcode,
                stored_size=one.member.stored_size,
            )
            for one in self._made.payloads
        ]
        limits = Limits(objects=3, size=20_000)
        return plan_needs(Planner(self._volumes, {SET: self._made.shape.k}), needs, limits)

    def restore(self, batch: PlannedBatch) -> dict[int, bytes]:
        """Bring back the objects of a batch from its volumes alone."""
        wanted = {item: self._payloads(item) for item in batch.item_ids}
        with self._sourcing(batch, wanted) as (sourcing, gathered):
            return {
                item: b"".join(
                    self._plain(one, sourcing.payload(self._extent(one), gathered))
                    for one in payloads
                )
                for item, payloads in wanted.items()
            }

    @contextmanager
    def _sourcing(
        self, batch: PlannedBatch, wanted: Mapping[int, list[Payload]]
    ) -> Iterator[tuple[Sourcing, Gathered]]:
        shape = self._made.shape
        size = shape.block_size
        files = {
            (SET, number, label.position): (label.barcode, len(held[number]) // size)
            for number in range(1, shape.stripes + 1)
            for label, held in zip(self._made.labels, self._made.files, strict=True)
        }
        sourcing = Sourcing(batch.volumes, {SET: SetShape(shape.k, shape.m, size)}, files)
        extents = [self._extent(one) for payloads in wanted.values() for one in payloads]
        with ExitStack() as stack, TemporaryDirectory() as staging:
            gathered = Gathered(Path(staging))
            stack.callback(gathered.close)

            def collect(barcode: str, blocks: set[tuple[int, int]]) -> None:
                drive = ImageDrive(self._folder / f"{barcode}.tap")
                stack.callback(drive.close)
                assert gathered.collect(barcode, blocks, TapeReader(as_drive(drive), size))

            sourcing.gather(extents, gathered, collect)
            yield sourcing, gathered

    def _payloads(self, item: int) -> list[Payload]:
        mine = [one for one in self._made.payloads if one.source == item]
        return sorted(mine, key=lambda one: one.member.meta.part or 1)

    def _plain(self, one: Payload, stored: Iterator[bytes]) -> bytes:
        plain = io.BytesIO()
        restore_payload(one.member, BlockReader(stored), plain, self._key.identities)
        return plain.getvalue()

    def _extent(self, one: Payload) -> BatchExtent:
        member = one.member
        return BatchExtent(
            part=member.meta.part or 1,
            stripe=one.file,
            position=one.position,
            barcode=self._made.labels[one.position].barcode,
            tape_set=SET,
            member=member.name,
            offset=member.offset,
            size=member.size,
            sha256=member.sha256,
            stored_size=member.stored_size,
            stored_sha256=member.stored_sha256,
        )


def as_drive(drive: Drive) -> Drive:
    """Return ``drive``, proven by types to be one."""
    return drive


def check(key: Key, shape: Shape, sources: list[Source], lost: Mapping[int, Health]) -> None:
    """Write a set, lose volumes, restore everything that is left; all else has to be named."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = write_set(folder, shape, sources, key.recipients)
        tapes = Tapes(folder, made, lost, key)
        planned = tapes.plan()
        affected = {one.source for one in made.payloads if one.position in lost}
        hopeless = affected if len(lost) > shape.m else set()
        assert set(planned.unrestorable) == hopeless
        barcodes = {made.labels[position].barcode for position in lost}
        assert all(set(gone) <= barcodes for gone in planned.unrestorable.values())
        restored: dict[int, bytes] = {}
        for batch in planned.batches:
            assert barcodes.isdisjoint(batch.volumes)
            restored |= tapes.restore(batch)
        digests = {n: hashlib.sha256(data).hexdigest() for n, data in restored.items()}
        assert digests == {
            number: hashlib.sha256(one.data).hexdigest()
            for number, one in enumerate(sources)
            if number not in hopeless
        }


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=shapes(), sources=SOURCES, data=st.data())
def test_after_any_loss_of_up_to_m_volumes_everything_comes_back(
    key: Key, shape: Shape, sources: list[Source], data: st.DataObject
) -> None:
    positions = st.sampled_from(range(shape.k + shape.m))
    healths = st.sampled_from(HEALTHS)
    lost = data.draw(st.dictionaries(positions, healths, max_size=shape.m))
    check(key, shape, sources, lost)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=shapes(), sources=SOURCES, data=st.data())
def test_after_any_greater_loss_exactly_what_is_affected_is_named(
    key: Key, shape: Shape, sources: list[Source], data: st.DataObject
) -> None:
    positions = st.sampled_from(range(shape.k + shape.m))
    healths = st.sampled_from(HEALTHS)
    lost = data.draw(st.dictionaries(positions, healths, min_size=shape.m + 1))
    check(key, shape, sources, lost)
