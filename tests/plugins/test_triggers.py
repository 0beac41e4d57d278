import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger, BaseTrigger

from demo.vendor import open_vendors
from restore_lib.errors import CatalogUnavailable, Refused
from restore_lib.restore.pausing import pause_restore, resume_restore
from restore_lib.restore.request import RestoreSpec, cancel_restore, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.receiving import receive
from tapeflow_airflow import triggers
from tapeflow_airflow.triggers import ArrivalsTrigger, RestoresEnded, ShipmentsEnded
from tests.support.sites import ACTOR, back_up, make_site, open_site, write_files

PATIENCE = 20.0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster with one backup, which triggers find by TAPEFLOW_CONFIG."""
    with closing(make_site(tmp_path)) as site:
        write_files(tmp_path / "live", {b"a": b"1", b"b": b"2"})
        back_up(site)
    monkeypatch.setenv("TAPEFLOW_CONFIG", str(tmp_path / "tapeflow.toml"))
    return tmp_path


@pytest.fixture
def site(root: Path) -> Iterator[Site]:
    with closing(open_site(root)) as opened:
        yield opened


def begin_restore(site: Site) -> int:
    plan = plan_restore(site, RestoreSpec(store="live", prefix=b"", target="out"), ACTOR)
    assert plan.request_id is not None
    start_restore(site, plan.request_id, ACTOR)
    return plan.request_id


async def first(trigger: BaseTrigger) -> Any:
    """Return the payload of a trigger's first event."""
    events = trigger.run()
    try:
        return (await asyncio.wait_for(anext(events), PATIENCE)).payload
    finally:
        await events.aclose()  # type: ignore[attr-defined]  # Airflow declares an iterator only


class EndOfScript(Exception):
    pass


class Scripted(ArrivalsTrigger):
    """Finds the work that the script's letters name, one second after another."""

    def __init__(self, script: Sequence[str], pause: float, longest_pause: float) -> None:
        super().__init__(0.0, pause, longest_pause)
        self.script = list(script)
        self.second = -1

    async def _open_work(self, asker: object) -> frozenset[str]:
        self.second += 1
        if self.second == len(self.script):
            raise EndOfScript
        return frozenset(self.script[self.second]) - {"."}

    async def seconds(self) -> list[int]:
        """Return when it fired."""
        found: list[int] = []
        try:
            async for _ in self.run():
                found.append(self.second)  # noqa: PERF401 - what was found has to outlive the error
        except EndOfScript:
            return found
        raise AssertionError


def fired(
    monkeypatch: pytest.MonkeyPatch, script: str, *, pause: float, longest_pause: float
) -> list[int]:
    trigger = Scripted(script, pause, longest_pause)
    monkeypatch.setattr("tapeflow_airflow.triggers.time.monotonic", lambda: float(trigger.second))
    monkeypatch.setattr(triggers, "_LOOKS", 0)
    return asyncio.run(trigger.seconds())


def test_new_work_fires_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fired(monkeypatch, "..ww.wv.w", pause=100, longest_pause=100) == [2, 5, 6, 8]


def test_work_that_stays_fires_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = fired(monkeypatch, "w" * 40, pause=2, longest_pause=8)
    assert seconds == [0, 2, 6, 14, 22, 30, 38]


def test_the_pauses_begin_anew_with_new_work(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "w" * 10 + "." + "w" * 6
    assert fired(monkeypatch, script, pause=2, longest_pause=8) == [0, 2, 6, 11, 13]


def test_looks_that_take_long_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = 0.0

    class Slow(ArrivalsTrigger):
        async def _open_work(self, asker: object) -> frozenset[str]:
            nonlocal clock
            clock += 4.0
            return frozenset()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise EndOfScript

    monkeypatch.setattr("tapeflow_airflow.triggers.time.monotonic", lambda: clock)
    monkeypatch.setattr("tapeflow_airflow.triggers.asyncio.sleep", sleep)
    with pytest.raises(EndOfScript):
        asyncio.run(first(Slow(poll=1.0)))
    assert slept == [36.0, 36.0]


def test_nothing_fires_for_a_paused_restore(site: Site) -> None:
    request_id = begin_restore(site)
    pause_restore(site, request_id, ACTOR)
    assert not triggers._open_work(site)
    resume_restore(site, request_id, ACTOR)
    assert asyncio.run(first(ArrivalsTrigger())) == {"work": True}


def test_arrivals_fire_for_a_restore_that_has_been_started(site: Site) -> None:
    assert not triggers._open_work(site)
    begin_restore(site)
    assert asyncio.run(first(ArrivalsTrigger())) == {"work": True}


def test_arrivals_outlive_an_error_and_open_the_site_anew(site: Site, root: Path) -> None:
    begin_restore(site)
    config = root / "tapeflow.toml"
    away = config.rename(root / "away.toml")

    class Seen(ArrivalsTrigger):
        failures = 0

        async def _open_work(self, asker: Any) -> frozenset[str]:
            found = await super()._open_work(asker)
            if not found:
                self.failures += 1
                if away.exists():
                    away.rename(config)
            return found

    trigger = Seen(poll=0.01, pause=0.01)
    assert asyncio.run(first(trigger)) == {"work": True}
    assert trigger.failures == 1


def test_a_restore_is_waited_for(site: Site) -> None:
    request_id = begin_restore(site)

    async def run() -> Any:
        waiting = asyncio.create_task(first(RestoresEnded([request_id], poll=0.01)))
        await asyncio.sleep(0)
        assert not waiting.done()
        await asyncio.to_thread(cancel_restore, site, request_id, ACTOR)
        return await waiting

    assert not RestoresEnded([request_id]).ended(site)
    assert asyncio.run(run()) == {"ended": [request_id]}


def test_all_restores_have_to_end(site: Site) -> None:
    ended, active = begin_restore(site), begin_restore(site)
    cancel_restore(site, ended, ACTOR)
    assert not RestoresEnded([ended, active]).ended(site)
    assert RestoresEnded([ended]).ended(site)


def test_what_may_pass_is_waited_out_and_the_rest_is_raised(site: Site) -> None:
    class Flaky(RestoresEnded):
        asked = 0

        def ended(self, site: Site) -> bool:
            self.asked += 1
            if self.asked < 3:
                raise CatalogUnavailable("The catalog does not answer.")
            return True

    flaky = Flaky([1], poll=0.01)
    assert asyncio.run(first(flaky)) == {"ended": [1]}
    assert flaky.asked == 3
    with pytest.raises(Refused, match="no restore request 99"):
        asyncio.run(first(RestoresEnded([99])))


def test_shipments_are_waited_for(site: Site) -> None:
    shipments = send_out(site, plan_vault_out(site), ACTOR)
    trigger = ShipmentsEnded(shipments, poll=0.01)
    assert shipments
    assert not trigger.ended(site)
    while not trigger.ended(site):
        for vendor in open_vendors(site.config):
            vendor.work()
        receive(site, ACTOR)
    assert asyncio.run(first(trigger)) == {"ended": shipments}


@pytest.mark.parametrize(
    "trigger",
    [ArrivalsTrigger(0.5, 7.0, 70.0), RestoresEnded([3, 4], 0.5), ShipmentsEnded([5])],
    ids=lambda trigger: type(trigger).__name__,
)
def test_a_trigger_is_made_again_from_its_path(trigger: BaseTrigger) -> None:
    path, arguments = trigger.serialize()
    again = resolve_name(path)(**arguments)
    assert type(again) is type(trigger)
    assert again.serialize() == (path, arguments)


def test_only_arrivals_may_watch_an_asset() -> None:
    assert issubclass(ArrivalsTrigger, BaseEventTrigger)
    assert not issubclass(RestoresEnded, BaseEventTrigger)
