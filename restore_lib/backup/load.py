"""One load: the staged stripes of a tape set, written to its volumes and committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from restore_lib.backup.stage import StagedFile, StagedStripe
from restore_lib.backup.write import append_files, label_volume, read_back
from restore_lib.catalog import audit, stripes, tape_sets
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.stripes import NewTapeFile
from restore_lib.catalog.tables import volumes as volume_table
from restore_lib.catalog.tape_sets import SetFile, TapeSet
from restore_lib.catalog.volumes import change, volumes
from restore_lib.errors import MediumError, VolumeFull
from restore_lib.library.base import Drive
from restore_lib.library.mounting import mounted
from restore_lib.model.volume import Content, Health
from restore_lib.site import Site
from restore_lib.tape.label import Label
from restore_lib.tape.mounted import sealed_index
from restore_lib.tape.volume_index import (
    Stripe,
    StripeMember,
    StripeTable,
    TapeFile,
    VolumeIndex,
    encode_stripe_table,
    write_volume_index,
)


@dataclass(frozen=True, slots=True)
class Load:
    """Staged stripes for one tape set, and whether the set is closed behind them."""

    tape_set: TapeSet
    staged: Sequence[StagedStripe]
    closes: bool
    folder: Path


class Writer:
    """Writes loads, volume by volume, under drive leases."""

    def __init__(self, site: Site, actor: str) -> None:
        self._site = site
        self._actor = actor
        self._leases = CatalogLeases(site.catalog, site.clock)

    def write(self, load: Load) -> None:
        """Bring the load onto every volume of its set and read it back.

        Nothing becomes visible. A volume that fails its read-back is marked as suspect before the
        MediumError is raised; VolumeFull leaves the set as it was committed.
        """
        with self._site.catalog.read() as connection:
            committed = tape_sets.files_of_set(connection, load.tape_set.id)
        for position, barcode in enumerate(load.tape_set.barcodes):
            label = self._label(load.tape_set, position, barcode)
            try:
                self._write_volume(load, label, committed)
            except MediumError:
                self._suspect(barcode)
                raise

    def _write_volume(self, load: Load, label: Label, committed: Sequence[SetFile]) -> None:
        done = load.tape_set.stripes
        files = [stripe.files[label.position] for stripe in load.staged]
        ttl = self._site.config.library.lease
        with mounted(
            self._site.library, self._leases, label.barcode, self._actor, ttl=ttl
        ) as drive:
            label_volume(drive, label)
            self._labelled(label.barcode)
            append_files(drive, label, done, [file.path for file in files])
            read_back(drive, label, done, [(file.blocks, file.sha256) for file in files])
            if load.closes:
                self._close_volume(drive, load, label, files, committed)

    def _close_volume(
        self,
        drive: Drive,
        load: Load,
        label: Label,
        files: Sequence[StagedFile],
        committed: Sequence[SetFile],
    ) -> None:
        """Write the last tape file; a volume without room for it does with its segments' own."""
        path = load.folder / f"closing-{label.position:02d}"
        if label.is_parity:
            path.write_bytes(encode_stripe_table(_stripe_table(load, label, committed)))
        else:
            _write_index(drive, path, label, files, committed)
        try:
            append_files(drive, label, load.tape_set.stripes + len(files), [path])
        except VolumeFull:
            return
        finally:
            path.unlink()

    def _label(self, tape_set: TapeSet, position: int, barcode: str) -> Label:
        return Label(
            barcode=barcode,
            cluster=self._site.config.cluster.id,
            tape_set=tape_set.id,
            k=tape_set.k,
            m=tape_set.m,
            position=position,
            block_size=tape_set.block_size,
            created_at=tape_set.created_at,
            recipients=tape_set.recipients,
        )

    def _labelled(self, barcode: str) -> None:
        with self._site.catalog.write() as connection:
            [volume] = volumes(connection, [barcode])
            if volume.content is Content.BLANK:
                self._content(connection, [barcode], Content.BLANK, Content.LABELLED)

    def _suspect(self, barcode: str) -> None:
        with self._site.catalog.write() as connection:
            if volumes(connection, [barcode], health=[Health.OK]):
                change(
                    connection,
                    [barcode],
                    "health",
                    Health.OK,
                    Health.SUSPECT,
                    actor=self._actor,
                    reason="did not read back as written",
                    at=self._site.clock.now(),
                )

    def commit(self, load: Load, rp_id: int, store: str, started: dict[bytes, int]) -> None:
        """Make a written load visible in one transaction; ``started`` is brought up to date."""
        with self._site.catalog.write() as connection:
            at = self._site.clock.now()
            if load.staged:
                pending = stripes.commit_stripes(
                    connection,
                    rp_id=rp_id,
                    store=store,
                    tape_set=load.tape_set.id,
                    files=_new_files(load),
                    new=[extent for stripe in load.staged for extent in stripe.extents],
                    started=started,
                    at=at,
                )
                self._count(connection, load)
            if load.closes:
                self.close(connection, load.tape_set)
        if load.staged:
            started.clear()
            started.update(pending)

    def close(self, connection: Connection, tape_set: TapeSet) -> None:
        """Close a set as it is committed: nothing is appended to it any more."""
        self._advance(connection, tape_set, Content.LABELLED, Content.APPENDABLE)
        self._advance(connection, tape_set, Content.APPENDABLE, Content.FULL)
        at = self._site.clock.now()
        tape_sets.close_set(connection, tape_set.id, at)
        audit.record(
            connection,
            at=at,
            actor=self._actor,
            action="backup.close_set",
            subject=tape_set.id,
            detail={"volumes": list(tape_set.barcodes)},
        )

    def _count(self, connection: Connection, load: Load) -> None:
        self._advance(connection, load.tape_set, Content.LABELLED, Content.APPENDABLE)
        for position, barcode in enumerate(load.tape_set.barcodes):
            blocks = sum(stripe.files[position].blocks for stripe in load.staged)
            connection.execute(
                volume_table.update()
                .where(volume_table.c.barcode == barcode)
                .values(
                    files=load.tape_set.stripes + len(load.staged),
                    bytes=volume_table.c.bytes + blocks * load.tape_set.block_size,
                )
            )

    def _advance(
        self, connection: Connection, tape_set: TapeSet, before: Content, after: Content
    ) -> None:
        waiting = volumes(connection, tape_set.barcodes, content=[before])
        if waiting:
            self._content(connection, [volume.barcode for volume in waiting], before, after)

    def _content(
        self, connection: Connection, barcodes: Sequence[str], before: Content, after: Content
    ) -> None:
        change(
            connection,
            barcodes,
            "content",
            before,
            after,
            actor=self._actor,
            reason="backup",
            at=self._site.clock.now(),
        )


def _new_files(load: Load) -> list[NewTapeFile]:
    return [
        NewTapeFile(
            stripe.number,
            file.position,
            load.tape_set.barcodes[file.position],
            file.blocks,
            file.sha256,
            file.index_offset,
        )
        for stripe in load.staged
        for file in stripe.files
    ]


def _stripe_table(load: Load, label: Label, committed: Sequence[SetFile]) -> StripeTable:
    members: dict[int, list[StripeMember]] = {}
    for file in committed:
        members.setdefault(file.stripe, []).append(
            StripeMember(file.position, file.barcode, file.blocks, file.sha256)
        )
    for new in _new_files(load):
        members.setdefault(new.stripe, []).append(
            StripeMember(new.position, new.barcode, new.blocks, new.sha256)
        )
    return StripeTable(
        barcode=label.barcode,
        tape_set=label.tape_set,
        k=label.k,
        m=label.m,
        position=label.position,
        block_size=label.block_size,
        stripes=tuple(Stripe(number, tuple(found)) for number, found in members.items()),
    )


def _write_index(
    drive: Drive,
    path: Path,
    label: Label,
    files: Sequence[StagedFile],
    committed: Sequence[SetFile],
) -> None:
    earlier = [file for file in committed if file.position == label.position]
    listed = [TapeFile(file.stripe, file.blocks, file.sha256) for file in earlier]
    sealed = [
        (file.stripe, sealed_index(drive, label.block_size, file.stripe, file.index_offset))
        for file in earlier
        if file.index_offset is not None
    ]
    for number, new in enumerate(files, len(earlier) + 1):
        listed.append(TapeFile(number, new.blocks, new.sha256))
        sealed.append((number, new.sealed_index or b""))
    index = VolumeIndex(label.barcode, label.tape_set, tuple(listed))
    write_volume_index(path, index, sealed, label.block_size)
