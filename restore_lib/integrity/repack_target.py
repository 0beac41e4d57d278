"""Where a repack writes to: new sets of the same policy, for the same recipients."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from sqlalchemy import Connection

from restore_lib.backup.load import Load, Writer
from restore_lib.backup.pack import Geometry
from restore_lib.backup.stage import StagedStripe
from restore_lib.backup.taking import fitting, unusable, used
from restore_lib.catalog import repacks, tape_sets
from restore_lib.catalog.repacks import Move, Repack
from restore_lib.catalog.stripes import NewTapeFile
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.errors import VolumeFull
from restore_lib.model.extents import NewExtent
from restore_lib.site import Site


@dataclass(frozen=True, slots=True)
class RepackRun:
    """One run of a repack; of several at once, only the latest may write and commit."""

    work: ClassVar[str] = "repack"
    site: Site
    actor: str
    repack: Repack

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction of the catalog; LeaseLost when another run has taken over."""
        with self.site.catalog.write() as connection:
            repacks.check_run(connection, self.repack, lock=True)
            yield connection

    def check(self) -> None:
        """Raise LeaseLost when another run has taken over."""
        with self.site.catalog.read() as connection:
            repacks.check_run(connection, self.repack)


class Target:
    """Writes staged stripes to the sets of one repack, and commits them."""

    def __init__(
        self, run: RepackRun, geometry: Geometry, sources: Sequence[str], drives: int
    ) -> None:
        """Write what was read from the sets ``sources``, to up to ``drives`` volumes at once."""
        self._run = run
        self._site = run.site
        self._geometry = geometry
        self._sources = sources
        self._policy = run.site.policy(run.repack.policy)
        self._writer = Writer(run, drives, reads_back=self._policy.read_back)

    def write(
        self, waiting: Sequence[StagedStripe], moved: Callable[[NewExtent], Move], folder: Path
    ) -> tuple[str, list[Move], Sequence[StagedStripe]]:
        """Write and commit the stripes that fit one set.

        ``moved`` tells which extent a staged one is. Return the set, what lies there now, and the
        stripes that are left for the next set. Raises MediumError, VolumeAbsent or VolumeFull when
        a volume failed, or was too short for anything; another call takes other volumes.
        """
        with self._run.write() as connection:
            to = self._take_set(connection)
            held = used(connection, to)
        fits = fitting(to, waiting, held, self._geometry.volume_size)
        first = to.stripes + 1
        staged = [stripe.renumbered(n) for n, stripe in enumerate(waiting[:fits], first)]
        written = self._writer.write(Load(to, staged, fits < len(waiting), folder))
        if staged and not written.staged and not to.stripes:
            raise VolumeFull(
                f"A blank volume of set {to.id} has no room for one segment.",
                remedy="make the policy's segment_size smaller, or correct [library] capacity",
            )
        moves = [moved(new) for stripe in written.staged for new in stripe.extents]

        def enter(connection: Connection, files: Sequence[NewTapeFile]) -> None:
            at = self._site.clock.now()
            repacks.move_extents(connection, self._run.repack, to.id, files, moves, at)

        self._writer.commit_by(written, enter)
        count = len(written.staged)
        for stripe in waiting[:count]:
            stripe.remove()
        return to.id, moves, waiting[count:]

    def end(self, folder: Path) -> None:
        """Close the set that is held still, or leave it to later backups, as the policy has it."""
        with self._run.write() as connection:
            held = repacks.held_set(connection, self._run.repack)
            if held is None:
                return
            ours = held.recipients == self._site.recipients.names
            if (self._policy.keep_open and ours) or not held.stripes:
                tape_sets.release_set(connection, held.id)
                return
            if unusable(connection, held):
                self._writer.close(connection, held)
                return
        closing = self._writer.write(Load(held, (), True, folder))
        self._writer.commit_by(closing, lambda *_: None)

    def _take_set(self, connection: Connection) -> TapeSet:
        """Return the set to write to: the one held, or a new one.

        One that can't be appended to any more is closed as committed. In one without data, blank
        volumes take the places of those that can't be used.
        """
        held = repacks.held_set(connection, self._run.repack)
        if held is not None:
            spoiled = unusable(connection, held)
            fits = self._fits(connection, held)
            if fits and not spoiled:
                return held
            if held.stripes:
                self._writer.close(connection, held)
            elif fits:
                tape_sets.replace_volumes(connection, held.id, spoiled)
                return tape_sets.tape_set(connection, held.id)
            else:
                tape_sets.release_set(connection, held.id)
        return self._new_set(connection)

    def _fits(self, connection: Connection, held: TapeSet) -> bool:
        """Whether a set has the shape that is written now, and is newer than all that are read."""
        to = self._geometry
        shape = (to.k, to.m, to.block_size) == (held.k, held.m, held.block_size)
        return shape and (held.created_at, held.id) > self._newest_source(connection)

    def _new_set(self, connection: Connection) -> TapeSet:
        to, repack = self._geometry, self._run.repack
        newest, _ = self._newest_source(connection)
        made = tape_sets.create_set(
            connection,
            policy=repack.policy,
            k=to.k,
            m=to.m,
            block_size=to.block_size,
            recipients=repack.recipients,
            job_id=None,
            at=max(self._site.clock.now(), newest),
        )
        repacks.hold_set(connection, repack, made.id)
        return made

    def _newest_source(self, connection: Connection) -> tuple[datetime, str]:
        """Return when the newest set that is read was made, and its id.

        A rebuild of the catalog takes a payload on the newest set for the one that counts, so none
        is moved to an older one.
        """
        held = [tape_sets.tape_set(connection, name) for name in self._sources]
        return max((one.created_at, one.id) for one in held)
