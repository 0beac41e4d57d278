import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.catalog import waves
from restore_lib.errors import CatalogUnavailable
from restore_lib.restore.heartbeat import Heartbeat
from restore_lib.site import Site
from tests.support.sites import make_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, blank=0)
    yield made
    made.close()


def test_a_wave_is_touched_again_and_again_until_its_batch_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[object] = []
    often = threading.Event()

    def touch(connection: object, wave_id: int, at: object) -> None:
        touched.append(wave_id)
        if len(touched) == 1:
            raise CatalogUnavailable("for a moment")
        if len(touched) == 3:
            often.set()

    monkeypatch.setattr(waves, "touch_wave", touch)
    with Heartbeat(site, 5, every=0.001):
        assert often.wait(30)
    count = len(touched)
    assert set(touched) == {5}
    assert not any(thread.name == "wave-heartbeat" for thread in threading.enumerate())
    assert len(touched) == count


def test_a_batch_of_no_wave_has_no_heartbeat(site: Site) -> None:
    with Heartbeat(site, None, every=0.001):
        assert not any(thread.name == "wave-heartbeat" for thread in threading.enumerate())
