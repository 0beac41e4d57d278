"""A sign of life while a batch runs, so that its wave does not count as abandoned."""

import logging
import threading
from types import TracebackType
from typing import Self

from restore_lib.catalog import waves
from restore_lib.errors import TapeflowError
from restore_lib.site import Site

EVERY = 60.0

_log = logging.getLogger(__name__)


class Heartbeat:
    """Touches a wave each ``every`` seconds between entering and leaving; a context manager."""

    def __init__(self, site: Site, wave_id: int | None, every: float = EVERY) -> None:
        """Give no sign of life for a batch of no wave (None)."""
        self._site = site
        self._wave_id = wave_id
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="wave-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self._wave_id is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._wave_id is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._every):
            try:
                with self._site.catalog.write() as connection:
                    waves.touch_wave(connection, self._wave_id or 0, self._site.clock.now())
            except TapeflowError as error:
                _log.warning("Wave %s could not be touched: %s", self._wave_id, error)
