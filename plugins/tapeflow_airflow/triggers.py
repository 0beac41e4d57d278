"""What the triggerer watches: whether something has arrived, and whether something has ended.

All of them ask the catalog in a thread, so that the triggerer's event loop never waits.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from restore_lib.errors import RetryLater

if TYPE_CHECKING:
    from restore_lib.site import Site

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)
_LOOKS = 9
"""How many times as long as a look the trigger sleeps, at least."""


class _Asker:
    """Holds the site open between questions; after an error it is opened anew."""

    def __init__(self) -> None:
        self._site: Site | None = None

    async def ask(self, question: Callable[["Site"], Answer]) -> Answer:
        """Return the answer; raise what opening the site or the question raises."""
        return await asyncio.to_thread(self._ask, question)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _ask(self, question: Callable[["Site"], Answer]) -> Answer:
        from restore_lib.site import Site

        try:
            if self._site is None:
                self._site = Site.load()
            return question(self._site)
        except Exception:
            self._close()
            raise

    def _close(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            site.close()


class ArrivalsTrigger(BaseEventTrigger):
    """Fires when there is work for a ``restore_wave`` run: a document, reads, a dead run's wave.

    It looks every ``poll`` seconds, more rarely where a look takes long: it spends at most a tenth
    of its time looking. It fires at once for work that it has not seen yet. While the same work
    waits, as when all runs that are allowed are busy, it fires again after ``pause``
    seconds, then after twice as long, up to ``longest_pause``. It never ends by itself, and an
    error only makes it wait.
    """

    def __init__(self, poll: float = 1.0, pause: float = 3.0, longest_pause: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow gives it no annotations
        self.poll = poll
        self.pause = pause
        self.longest_pause = longest_pause

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return _path(self), {
            "poll": self.poll,
            "pause": self.pause,
            "longest_pause": self.longest_pause,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event each time that there is work."""
        asker = _Asker()
        pause, fired = self.pause, 0.0
        seen: frozenset[str] = frozenset()
        try:
            while True:
                began = time.monotonic()
                work = await self._open_work(asker)
                now = time.monotonic()
                if work - seen:
                    pause, fired = self.pause, now
                    yield TriggerEvent({"work": True})
                elif work and now - fired >= pause:
                    pause, fired = min(2 * pause, self.longest_pause), now
                    yield TriggerEvent({"work": True})
                seen = work
                await asyncio.sleep(max(self.poll, _LOOKS * (now - began)))
        finally:
            await asker.close()

    async def _open_work(self, asker: _Asker) -> frozenset[str]:
        try:
            return await asker.ask(_open_work)
        except Exception as error:  # noqa: BLE001 - a watcher that ends is not started again
            log.warning("Can't tell whether there is work: %s", error)
            await asyncio.sleep(self.pause)
            return frozenset()


class _EndTrigger(BaseTrigger):
    """Fires once, when all of ``ids`` have ended; what may pass is waited for."""

    def __init__(self, ids: Sequence[int], poll: float = 2.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow gives it no annotations
        self.ids = list(ids)
        self.poll = poll

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return _path(self), {"ids": self.ids, "poll": self.poll}

    def ended(self, site: "Site") -> bool:
        """Return whether all have ended."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event at the end."""
        asker = _Asker()
        try:
            while True:
                try:
                    if await asker.ask(self.ended):
                        break
                except RetryLater as error:
                    log.warning("Asking again later: %s", error)
                await asyncio.sleep(self.poll)
        finally:
            await asker.close()
        yield TriggerEvent({"ended": self.ids})


class RestoresEnded(_EndTrigger):
    """Fires when every object of these restore requests has its end, or they are cancelled."""

    def ended(self, site: "Site") -> bool:
        """Return whether all have ended; Refused when there is no such request."""
        from restore_lib.restore.flow import is_ended

        return all(is_ended(site, request_id) for request_id in self.ids)


class ShipmentsEnded(_EndTrigger):
    """Fires when nothing more is expected of these shipments."""

    def ended(self, site: "Site") -> bool:
        """Return whether all have ended; a shipment that is not there has."""
        from restore_lib.catalog.shipments import shipment

        with site.catalog.read() as connection:
            found = [shipment(connection, shipment_id) for shipment_id in self.ids]
        return all(one is None or one.ended for one in found)


def _open_work(site: "Site") -> frozenset[str]:
    from restore_lib.restore.flow import open_work

    return open_work(site)


def _path(trigger: BaseTrigger) -> str:
    return f"{type(trigger).__module__}.{type(trigger).__qualname__}"
