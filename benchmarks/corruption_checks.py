"""What every reader of tapes has to hold to on a damaged volume, against what was written."""

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from restore_lib.catalog.verifications import ExpectedFile, ExpectedVolume
from restore_lib.errors import EndOfData, GoElsewhere, KeyUnusable, TapeflowError
from restore_lib.integrity.tape_check import check_volume
from restore_lib.library.simh import TapeImage
from restore_lib.restore.read import TapeReader
from restore_lib.tape import tar
from restore_lib.tape.age import Identity
from restore_lib.tape.members import Member
from restore_lib.tape.mounted import blocks, read_label, sealed_index
from restore_lib.tape.payload import restore_payload
from restore_lib.tape.segment_reader import (
    decode_index,
    read_index,
    read_sealed_index,
    verify_segment,
)
from restore_lib.tape.streams import BlockReader
from restore_lib.tape.volume_index import decode_stripe_table, read_volume_index
from tests.support.tape_sets import CLUSTER, SET, ImageDrive, TapeSet


class WrongBytes(AssertionError):
    """A reader gave something as good that was never written."""


@dataclass
class Truth:
    """A set as it was written, and what its sound tape files hold."""

    made: TapeSet
    identities: Sequence[Identity]
    indexes: list[list[Member]] = field(default_factory=list)
    manifests: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for files in self.made.files[: self.made.shape.k]:
            for data in files[1 : 1 + self.made.shape.stripes]:
                self.indexes.append(read_index(io.BytesIO(data), self.identities))
                self.manifests.append(stored_digests(data))


def stored_digests(data: bytes) -> dict[str, str]:
    """Return the digest of each member of a segment but its manifest."""
    found = {entry.name: entry.sha256() for entry in tar.entries(io.BytesIO(data))}
    del found[tar.MANIFEST]
    return found


class VolumeChecks:
    """All readers on one damaged image; ``seen`` counts what each came to, by error code."""

    def __init__(self, truth: Truth, position: int, path: Path, draw: random.Random) -> None:
        self._truth = truth
        self._made = truth.made
        self._shape = truth.made.shape
        self._position = position
        self._path = path
        self._draw = draw
        self._drive = ImageDrive(path)
        self.seen: Counter[str] = Counter()

    def run(self) -> None:
        """Raise WrongBytes for wrong bytes given as good; whatever else passes is a crash."""
        self._attempt("image", self._check_image)
        self._attempt("label", self._check_label)
        self._attempt("tape_check", self._check_whole_volume)
        for file in range(1, self._shape.stripes + 3):
            for reader in (
                self._check_segment,
                self._check_index,
                self._check_sealed_index,
                self._check_volume_index,
                self._check_stripe_table,
            ):
                self._attempt(reader.__name__.removeprefix("_check_"), reader, file)
        for payload in self._made.payloads:
            if payload.position == self._position:
                self._attempt("payload", self._check_payload, payload.file, payload.member)
        for file in range(1, self._shape.stripes + 1):
            self._attempt("index_at", self._check_index_at, file)
        self._drive.close()

    def _attempt(self, name: str, check: Callable[..., None], *arguments: object) -> None:
        try:
            check(*arguments)
        except KeyUnusable as error:
            raise AssertionError(f"{name}: damage was taken for a wrong key") from error
        except TapeflowError as error:
            self.seen[f"{name}: {error.code}"] += 1
        else:
            self.seen[f"{name}: as written"] += 1

    def _expect(self, true: object, what: str) -> None:
        if not true:
            raise WrongBytes(what)

    def _stream(self, file: int) -> BlockReader:
        self._drive.locate(file)
        return BlockReader(blocks(self._drive))

    def _check_image(self) -> None:
        """Blocks read in order and blocks gone to are the same ones."""
        in_order: dict[tuple[int, int], bytes] = {}
        try:
            in_order.update(_walk(self._path))
        finally:
            with TapeImage(self._path) as image:
                for place in self._draw.sample(sorted(in_order), min(5, len(in_order))):
                    image.locate(*place)
                    self._expect(image.read() == in_order[place], f"block {place} read twice")
        with TapeImage(self._path) as image:
            image.space_to_end()

    def _check_label(self) -> None:
        label = read_label(self._drive)
        if label is None:
            head = self._path.read_bytes()[:8]
            blank = not head or head[:4] == b"\xff" * 4 or self._path.stat().st_size < 520
            self._expect(blank or _first_is_torn(self._path), "a tape with data read as blank")
        else:
            self._expect(label == self._made.labels[self._position], "another label was read")

    def _check_whole_volume(self) -> None:
        size = self._shape.block_size
        files = self._made.files[self._position][1 : 1 + self._shape.stripes]
        expected = ExpectedVolume(
            barcode=self._made.labels[self._position].barcode,
            tape_set=SET,
            position=self._position,
            k=self._shape.k,
            block_size=size,
            closed=True,
            files=tuple(
                ExpectedFile(number, len(data) // size, sha256(data).hexdigest())
                for number, data in enumerate(files, 1)
            ),
        )
        try:
            findings = check_volume(self._drive, CLUSTER, expected, lambda *_: None)
        except GoElsewhere as error:
            raise AssertionError("the check did not go on behind damage") from error
        self.seen[f"tape_check: damage {findings.damage}"] += 1
        if not findings.problems:
            found = [self._stream(number).read() for number in range(1, len(files) + 1)]
            self._expect(found == files, "a damaged tape file passed the check")

    def _check_segment(self, file: int) -> None:
        if verify_segment(_blocks(self._drive, file)).ok:
            found = stored_digests(self._stream(file).read())
            self._expect(found in self._truth.manifests, "a damaged segment passed")

    def _check_index(self, file: int) -> None:
        members = read_index(self._stream(file), self._truth.identities)
        self._expect(members in self._truth.indexes, "another index was read")

    def _check_sealed_index(self, file: int) -> None:
        sealed = read_sealed_index(self._stream(file))
        members = decode_index(io.BytesIO(sealed), self._truth.identities, what="index")
        self._expect(members in self._truth.indexes, "another sealed index was read")

    def _check_volume_index(self, file: int) -> None:
        index, sealed = read_volume_index(self._stream(file))
        found = (index, list(sealed))
        true, kept = read_volume_index(io.BytesIO(self._made.files[self._position][-1]))
        self._expect(found == (true, list(kept)), "another volume index was read")

    def _check_stripe_table(self, file: int) -> None:
        table = decode_stripe_table(self._stream(file))
        true = decode_stripe_table(io.BytesIO(self._made.files[self._position][-1]))
        self._expect(table == true, "another stripe table was read")

    def _check_payload(self, file: int, member: Member) -> None:
        reader = TapeReader(self._drive, self._shape.block_size)
        stored = BlockReader(reader.range(file, member.offset, member.stored_size))
        plain = io.BytesIO()
        restore_payload(member, stored, plain, self._truth.identities)
        self._expect(sha256(plain.getvalue()).hexdigest() == member.sha256, "another object")

    def _check_index_at(self, file: int) -> None:
        if self._position >= self._shape.k:
            return
        data = self._made.files[self._position][file]
        offset = next(e.offset for e in tar.entries(io.BytesIO(data)) if e.name.startswith("INDEX"))
        sealed = sealed_index(self._drive, self._shape.block_size, file, offset)
        members = decode_index(io.BytesIO(sealed), self._truth.identities, what="index")
        self._expect(members in self._truth.indexes, "another index was read in place")


def _blocks(drive: ImageDrive, file: int) -> Iterator[bytes]:
    drive.locate(file)
    return blocks(drive)


def _walk(path: Path) -> Iterator[tuple[tuple[int, int], bytes]]:
    with TapeImage(path) as image:
        while True:
            place = image.position
            try:
                block = image.read()
            except EndOfData:
                return
            if block is not None:
                yield (place.file, place.block), block


def _first_is_torn(path: Path) -> bool:
    """Whether the image ends within its first record."""
    data = path.read_bytes()
    return len(data) < int.from_bytes(data[:4], "little") + 8
