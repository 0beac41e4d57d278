"""Which of the objects in a tape file are readable, by what the catalog knows of each."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from restore_lib.catalog.verifications import ExpectedMember


class MemberCheck(Iterator[bytes]):
    """Passes the blocks of a tape file on, and checks the bytes of each object among them.

    It goes by the places that the catalog has, so an object is found also where the headers around
    it are gone. Needs no key.
    """

    def __init__(self, blocks: Iterable[bytes], members: Sequence[ExpectedMember]) -> None:
        """``members`` are in the order in which they lie in the tape file."""
        self.wrong: list[str] = []
        self._blocks = iter(blocks)
        self._members = members
        self._done = 0
        self._offset = 0
        self._digest = hashlib.sha256()

    @property
    def unread(self) -> str | None:
        """The first object that was not read to its end, None when all were."""
        return self._members[self._done].name if self._done < len(self._members) else None

    def __next__(self) -> bytes:
        block = next(self._blocks)
        self._check(memoryview(block))
        self._offset += len(block)
        return block

    def _check(self, block: memoryview) -> None:
        end = self._offset + len(block)
        while self._done < len(self._members):
            member = self._members[self._done]
            if member.offset >= end:
                return
            behind = member.offset + member.stored_size
            first = max(member.offset - self._offset, 0)
            self._digest.update(block[first : behind - self._offset])
            if behind > end:
                return
            if self._digest.hexdigest() != member.stored_sha256:
                self.wrong.append(member.name)
            self._digest = hashlib.sha256()
            self._done += 1
