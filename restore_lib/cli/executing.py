"""Running restores in this process until they have ended."""

import fcntl
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import typer

from restore_lib.catalog import requests
from restore_lib.catalog.batches import batches_of
from restore_lib.catalog.waves import open_waves
from restore_lib.cli.crew import Crew
from restore_lib.cli.progress import Total
from restore_lib.cli.session import Session
from restore_lib.errors import GoElsewhere, RetryLater, Unrecoverable
from restore_lib.model.progress import Progress
from restore_lib.model.states import ITEM_ENDS, RequestState
from restore_lib.restore import flow
from restore_lib.restore.batch import BatchRunner, run_batch
from restore_lib.restore.claiming import claim, held_by_others, settle
from restore_lib.site import Site
from restore_lib.workers import Workers, cores

_SHORTEST_POLL = 0.2
_LONGEST_POLL = 10.0
_OVER = frozenset({RequestState.ENDED, RequestState.CANCELLED})
_WORTH_PROCESSES = 64 << 20
"""Bytes of a wave that one process does not bring back before others have even begun."""


def execute(
    session: Session, request_ids: Sequence[int], timeout: timedelta, *, go_on: str
) -> None:
    """Run all active restores, wave by wave, until these have ended.

    Volumes that are away are recalled and waited for. One process of a host works at a time; the
    others wait for it, since it does their work too. After Ctrl-C or a crash, the next call on this
    host goes on with the very batches that were under way. Raises RetryLater after ``timeout``,
    with ``go_on``, the command that goes on, as its remedy. Ctrl-C ends the command with 130.
    """
    site = session.site
    until = _Deadline(site, site.clock.now() + timeout, go_on)
    try:
        with _working(session, request_ids, until) as mine, session.board() as board:
            if mine:
                total = board.total("restoring", _count(site, request_ids, done=False))
                with _Hands(site, session.actor) as hands:
                    _Execution(session, request_ids, total, hands).run(until)
    except KeyboardInterrupt:
        session.say(f"Interrupted, and nothing is lost; to go on where it was: `{go_on}`")
        raise typer.Exit(130) from None


@dataclass(frozen=True, slots=True)
class _Deadline:
    """When to stop waiting, and how to go on later."""

    site: Site
    at: datetime
    go_on: str

    def check(self) -> None:
        """Raise RetryLater once the time is over."""
        if self.site.clock.now() >= self.at:
            raise RetryLater(
                "The time is over, and the restore has not ended; nothing is lost.",
                remedy=f"to go on where it was: `{self.go_on}`",
            )


@contextmanager
def _working(session: Session, request_ids: Sequence[int], until: _Deadline) -> Iterator[bool]:
    """Hold the right to work on this host; gives False when another process did all the work."""
    site = session.site
    with (site.staging / "restoring.lock").open("w") as lock:
        told = False
        while not _try(lock.fileno()):
            if _ended(site, request_ids):
                yield False
                return
            if not told:
                session.say("Another tapeflow restores on this host; it does this work too.")
                told = True
            until.check()
            site.clock.sleep(_SHORTEST_POLL)
        yield True


class _Hands:
    """Processes that run batches, begun when they are first wanted; a context manager.

    There is one more than cores, for those that wait for a tape or for the disk, but no more than
    drives.
    """

    def __init__(self, site: Site, actor: str) -> None:
        self._site = site
        self._actor = actor
        self._count = min(cores() + 1, site.config.library.drives)
        self._free = threading.Semaphore(self._count)
        self._held = ExitStack()
        self._workers: Workers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def begin(self) -> None:
        """Begin the processes, unless they have begun."""
        if self._workers is None:
            one = (self._site.config, self._site.clock, self._actor, _runner())
            self._workers = self._held.enter_context(Workers(self._count, BatchRunner, *one))

    def run(self, site: Site, batch_id: int, progress: Progress) -> None:
        """Run a batch in the next process that is free, or here when none has begun."""
        if self._workers is None:
            run_batch(site, batch_id, self._actor, progress, runner=_runner())
            return
        with self._free:
            self._workers.submit("run", batch_id, progress=progress).result()


class _Execution:
    """One process's work on restores."""

    def __init__(
        self, session: Session, request_ids: Sequence[int], total: Total, hands: _Hands
    ) -> None:
        self._session = session
        self._site = session.site
        self._ids = request_ids
        self._total = total
        self._crew = Crew(session.site, session.say)
        self._hands = hands
        self._said: set[str] = set()
        self._said_before: set[str] = set()

    def run(self, until: _Deadline) -> None:
        """Do what can be done, then wait and look again, until all has ended."""
        pause = _SHORTEST_POLL
        while True:
            worked = self._work()
            self._total.reach(_count(self._site, self._ids, done=True))
            if _ended(self._site, self._ids):
                return
            if paused := _paused(self._site, self._ids):
                raise RetryLater(
                    f"Restore request {paused[0]} is paused; nothing is lost.",
                    remedy=f"to go on where it was: `tapeflow restore resume {paused[0]}`",
                )
            until.check()
            if worked:
                pause = _SHORTEST_POLL
            else:
                self._site.clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_POLL)

    def _work(self) -> bool:
        """Look once; return whether a wave was run."""
        self._said_before, self._said = self._said, set()
        try:
            done = flow.advance(self._site, self._session.actor)
        except RetryLater as error:
            self._say_once(f"{error} It is tried again.")
            return False
        if done.recalls:
            self._say_once(f"Waiting for volumes: shipments {', '.join(map(str, done.recalls))}.")
        claimed = claim(self._site, _runner())
        if not claimed:
            for problem in done.problems:
                if not problem.retryable:
                    raise problem
                self._say_once(f"{problem} It is tried again.")
            self._tell_who_holds_them()
            return False
        if len(claimed) > 1 and self._size() >= _WORTH_PROCESSES:
            self._hands.begin()
        self._crew.run(claimed, self._batch, self._total)
        settle(self._site, _runner())
        return True

    def _batch(self, site: Site, batch_id: int, progress: Progress) -> None:
        """Run a batch; what its volumes can't give is planned again when the wave is settled."""
        try:
            self._hands.run(site, batch_id, progress)
        except (GoElsewhere, Unrecoverable) as error:
            self._session.say(f"Planned again: {error.message}")

    def _size(self) -> int:
        with self._site.catalog.read() as connection:
            return sum(
                batch.size
                for wave in open_waves(connection, _runner())
                for batch in batches_of(connection, wave_id=wave.id)
            )

    def _tell_who_holds_them(self) -> None:
        for runner in dict.fromkeys(map(_short, held_by_others(self._site, _runner(), self._ids))):
            self._say_once(
                f"Batches are with {runner}. If it is dead, they come free a quarter of an hour "
                "after its last sign of life, and those not begun at once by "
                "`tapeflow restore pause` and `tapeflow restore resume`."
            )

    def _say_once(self, message: str) -> None:
        """Tell what was not so at the last look."""
        if message not in self._said | self._said_before:
            self._session.say(message)
        self._said.add(message)


def _runner() -> str:
    """Return whose waves are run here: the same after a restart, so that they are taken up."""
    return f"tapeflow@{socket.gethostname()}"


def _short(runner: str) -> str:
    """Return the name of a runner without that of its run, of which there are many."""
    return runner.partition("/")[0]


def _paused(site: Site, request_ids: Sequence[int]) -> list[int]:
    """Return the paused ones of these, when no other one is left to work on."""
    with site.catalog.read() as connection:
        found = [requests.request(connection, one) for one in request_ids]
    left = [request for request in found if request.state not in _OVER]
    paused = [request.id for request in left if request.state is RequestState.PAUSED]
    return paused if len(paused) == len(left) else []


def _ended(site: Site, request_ids: Sequence[int]) -> bool:
    return all(flow.is_ended(site, one) for one in request_ids)


def _count(site: Site, request_ids: Sequence[int], *, done: bool) -> int:
    """Return how many objects these restores are of, or how many of them have their end."""
    with site.catalog.read() as connection:
        return sum(
            count
            for one in request_ids
            for state, count in requests.count_items(connection, one).items()
            if not done or state in ITEM_ENDS
        )


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
