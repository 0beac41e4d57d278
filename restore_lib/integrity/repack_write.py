"""Payloads as they are stored, sealed into new segments: no key is needed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from restore_lib.backup.pack import Piece
from restore_lib.backup.seal import Sealed, SealedFile, SegmentOrder, Selected, extent_of
from restore_lib.catalog.liveness import LiveExtent
from restore_lib.integrity.repack_read import Page
from restore_lib.model.objects import StoredObject
from restore_lib.tape.age import Recipients
from restore_lib.tape.members import Member, MemberMeta
from restore_lib.tape.parity import TapeFileSummary, encode_parity
from restore_lib.tape.segment import SegmentWriter


def selected(page: Page) -> Iterator[Selected]:
    """Yield the payloads of a page as pieces to stage, each in the place of its extent."""
    for extent in page.extents:
        source = StoredObject(
            key=extent.key,
            size=extent.object_size,
            modified_at=extent.modified_at,
            etag=extent.etag,
            version=extent.store_version,
            content_type=extent.content_type,
            metadata=extent.metadata,
        )
        yield Selected(Piece(source, extent.part, extent.parts, extent.size), extent.id)


class StoredSealing:
    """Seals the payloads of a page, in this very thread: nothing has to be encrypted again."""

    def __init__(
        self,
        page: Page,
        recipients: Recipients,
        block_size: int,
        sealed: Callable[[LiveExtent], None],
    ) -> None:
        """Seal for ``recipients``, those of the payloads; tell ``sealed`` of each that is done."""
        self._page = page
        self._extents = {extent.id: extent for extent in page.extents}
        self._recipients = recipients
        self._block_size = block_size
        self._sealed = sealed

    def seal(self, order: SegmentOrder) -> "Future[Sealed]":
        """Write a segment; DigestMismatch when the staging disk does not give back what it took."""
        done: Future[Sealed] = Future()
        done.set_result(self._seal(order))
        return done

    def protect(
        self,
        data: Sequence[Path],
        outputs: Sequence[Path],
        size: int,  # noqa: ARG002 - protocol's
    ) -> "Future[list[TapeFileSummary]]":
        """Compute parity and digests."""
        done: Future[list[TapeFileSummary]] = Future()
        done.set_result(encode_parity(data, outputs, block_size=self._block_size))
        return done

    def _seal(self, order: SegmentOrder) -> Sealed:
        extents = []
        with SegmentWriter(
            order.path, block_size=self._block_size, recipients=self._recipients
        ) as writer:
            for one in order.selected:
                extent = self._extents[one.replaces or 0]
                member = writer.add_stored(_member(extent), self._page.payload(extent))
                extents.append(extent_of(one, member, order.number, order.position))
                self._sealed(extent)
            summary = writer.finish()
        return Sealed(SealedFile.of(order, summary), tuple(extents), {})


def _member(extent: LiveExtent) -> Member:
    """Return what the new index says of a payload; ordinal and offset are the segment's to set."""
    cut = extent.parts > 1
    meta = MemberMeta(
        store=extent.store,
        key=extent.key,
        version=extent.store_version,
        modified_at=extent.modified_at,
        content_type=extent.content_type,
        metadata=extent.metadata,
        part=extent.part if cut else None,
        parts=extent.parts if cut else None,
        object_size=extent.object_size if cut else None,
        object_sha256=extent.object_sha256 if cut and extent.part == extent.parts else None,
        etag=extent.etag,
    )
    return Member(
        ordinal=0,
        compressed=extent.member.endswith(".zst.age"),
        size=extent.size,
        sha256=extent.sha256,
        stored_size=extent.stored_size,
        stored_sha256=extent.stored_sha256,
        offset=0,
        meta=meta,
    )
