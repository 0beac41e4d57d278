"""Keys, objects and segments for the tests of the tape format."""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restore_lib.tape.age import Identity, Recipients, load_identities, new_identity
from restore_lib.tape.members import MemberMeta
from restore_lib.tape.segment import SegmentSummary, SegmentWriter

BLOCK = 4096
WHEN = datetime(2012, 11, 5, 9, 30, 0, 250_000, tzinfo=UTC)


class Keys:
    """One key pair on disk."""

    def __init__(self, path: Path) -> None:
        text, self.recipient = new_identity()
        self.path = path
        path.write_text(text)

    @property
    def recipients(self) -> Recipients:
        return Recipients.parse([self.recipient])

    @property
    def identities(self) -> list[Identity]:
        return load_identities(self.path)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "operating.txt")


@pytest.fixture(scope="session")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "escrow.txt")


WriteSegment = Callable[[Path, dict[bytes, bytes]], SegmentSummary]


@pytest.fixture(scope="session")
def write_segment(keys: Keys) -> WriteSegment:
    def write(path: Path, objects: dict[bytes, bytes]) -> SegmentSummary:
        with SegmentWriter(path, block_size=BLOCK, recipients=keys.recipients) as writer:
            for key, data in objects.items():
                writer.add(meta(key), io.BytesIO(data), size=len(data))
            return writer.finish()

    return write


def meta(key: bytes = b"a") -> MemberMeta:
    return MemberMeta(store="live", key=key, version=None, modified_at=WHEN)
