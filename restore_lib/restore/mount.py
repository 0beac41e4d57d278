"""Mount a volume to read it; what is wrong with it is written down, so that plans go around it."""

from collections.abc import Iterator
from contextlib import contextmanager

from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.stripes import blocks_of_files
from restore_lib.catalog.volumes import change, known, set_flag, volume
from restore_lib.errors import (
    CorruptTapeFile,
    EndOfData,
    ForeignTape,
    MediumError,
    UnknownFormat,
    VolumeAbsent,
    VolumeStuck,
)
from restore_lib.library.base import Drive
from restore_lib.library.mounting import mounted
from restore_lib.model.volume import Custody, Flag, Health
from restore_lib.restore.layout import Layout
from restore_lib.restore.read import TapeReader
from restore_lib.site import Site
from restore_lib.tape.mounted import read_label


class Mounts:
    """Mounts volumes for one actor."""

    def __init__(self, site: Site, actor: str) -> None:
        self._site = site
        self._actor = actor
        self._leases = CatalogLeases(site.catalog, site.clock)

    @contextmanager
    def reader(self, barcode: str) -> Iterator[TapeReader]:
        """Mount a volume, check its label against the catalog, and give a reader of it.

        Raises VolumeAbsent when it is not in the library (it is marked as lost), and MediumError
        when its label can't be read (broken), is not the expected one (flagged), or when it is
        stuck in a dead drive (disabled).
        """
        ttl = self._site.config.library.lease
        try:
            with mounted(self._site.library, self._leases, barcode, self._actor, ttl=ttl) as drive:
                yield self._reader(drive, barcode)
        except VolumeAbsent as error:
            self.mark(barcode, Health.LOST, error.message, Flag.MISSING)
            raise
        except VolumeStuck as error:
            self.mark(barcode, Health.DISABLED, error.message)
            raise MediumError(error.message, volume=barcode) from error

    def mark(self, barcode: str, health: Health, reason: str, flag: Flag | None = None) -> None:
        """Write down what is wrong with a volume that counted as readable so far.

        One that has left the library since it was chosen is not LOST: it is where the catalog says.
        """
        with self._site.catalog.write() as connection:
            [found] = known(connection, [barcode], lock=True)
            if health is Health.LOST and found.custody is not Custody.MOUNTABLE:
                return
            who, at = self._actor, self._site.clock.now()
            if found.health in {Health.OK, Health.SUSPECT} and found.health is not health:
                change(
                    connection,
                    [barcode],
                    "health",
                    found.health,
                    health,
                    actor=who,
                    reason=reason,
                    at=at,
                )
            if flag is not None:
                set_flag(connection, [barcode], flag, actor=who, reason=reason, at=at)

    def _reader(self, drive: Drive, barcode: str) -> TapeReader:
        with self._site.catalog.read() as connection:
            tape_set = volume(connection, barcode).tape_set
        block_size = self._block_size(drive, barcode, tape_set)
        geometry = drive.geometry()
        if geometry is None or tape_set is None:
            return TapeReader(drive, block_size)
        with self._site.catalog.read() as connection:
            lengths = blocks_of_files(connection, barcode, tape_set)
        return TapeReader(drive, block_size, Layout(geometry, block_size, lengths))

    def _block_size(self, drive: Drive, barcode: str, tape_set: str | None) -> int:
        try:
            label = read_label(drive)
        except (MediumError, EndOfData) as error:
            raise self._bad_label(barcode, error.message, Health.BROKEN) from error
        except (ForeignTape, UnknownFormat) as error:
            damaged = isinstance(error.__cause__, CorruptTapeFile)
            health, flag = (Health.BROKEN, None) if damaged else (Health.SUSPECT, Flag.FOREIGN)
            raise self._bad_label(barcode, error.message, health, flag) from error
        if label is None:
            raise self._bad_label(barcode, "it is blank.", Health.SUSPECT, Flag.LABEL_MISMATCH)
        found = (label.cluster, label.barcode, label.tape_set)
        if found != (self._site.config.cluster.id, barcode, tape_set):
            what = (
                f"it is of volume {label.barcode}, set {label.tape_set}, cluster {label.cluster}."
            )
            raise self._bad_label(barcode, what, Health.SUSPECT, Flag.LABEL_MISMATCH)
        return label.block_size

    def _bad_label(
        self, barcode: str, why: str, health: Health, flag: Flag | None = None
    ) -> MediumError:
        message = f"The label of volume {barcode} is not the expected one: {why}"
        self.mark(barcode, health, message, flag)
        return MediumError(message, volume=barcode)
