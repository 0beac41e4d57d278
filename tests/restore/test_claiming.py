from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import update

from restore_lib.catalog import batches, tables, waves
from restore_lib.catalog.batches import Batch
from restore_lib.model.states import BatchState, WaveState
from restore_lib.restore import claiming
from restore_lib.restore.claiming import (
    claim,
    has_room,
    held_by_others,
    settle,
    settle_wave,
)
from restore_lib.site import Site
from tests.support.clock import ManualClock
from tests.support.restores import History
from tests.support.sites import make_site

HERE = tuple("ABCDEFGHIJKLMNOPQRST")


class Usage(NamedTuple):
    free: int


@pytest.fixture
def site(tmp_path: Path, catalog_url: str) -> Iterator[Site]:
    """A site with twenty volumes here and one on a truck, once on each database."""
    opened = make_site(tmp_path, url=catalog_url, blank=0, clock=ManualClock())
    with opened.catalog.write() as connection:
        history = History(connection, state="ended")
        history.volume(*HERE, "AWAY")
        connection.execute(
            update(tables.volumes)
            .where(tables.volumes.c.barcode == "AWAY")
            .values(custody="courier")
        )
    yield opened
    opened.close()


def ask(site: Site, *held: list[str], values: dict[str, Any] | None = None, **request: Any) -> int:
    """Make an active request with one planned batch of each of these lists of volumes."""
    with site.catalog.write() as connection:
        history = History(connection, **request)
        for volumes in held:
            history.batch(volumes, barcode=volumes[0], **(values or {}))
        return history.id


def found(site: Site, request_id: int | None = None) -> list[Batch]:
    with site.catalog.read() as connection:
        return batches.batches_of(connection, request_id=request_id)


def of(site: Site, claimed: list[int]) -> list[int]:
    """Return the requests of batches."""
    requests = {batch.id: batch.request_id for batch in found(site)}
    return [requests[batch_id] for batch_id in claimed]


def begin(site: Site, batch_id: int) -> None:
    with site.catalog.write() as connection:
        batches.begin_batch(connection, batch_id, site.clock.now())


def end(site: Site, batch_id: int) -> None:
    with site.catalog.write() as connection:
        batches.end_batch(connection, batch_id, BatchState.DONE, site.clock.now(), None)


def test_only_what_is_here_is_claimed(site: Site) -> None:
    ask(site, ["A"], ["AWAY"], ["B", "AWAY"], ["B", "C"])
    claimed = claim(site, "one")
    assert [batch.volumes for batch in found(site) if batch.id in claimed] == [("A",), ("B", "C")]
    assert claim(site, "two") == []


def test_a_claim_is_of_all_requests_by_turns(site: Site) -> None:
    huge = ask(site, *(["A"] for _ in range(6)))
    small = ask(site, ["A"], ["B"])
    idle = ask(site, ["C"], priority="background")
    urgent = ask(site, ["D"], priority="urgent")
    paused = ask(site, ["D"], state="paused")
    claimed = of(site, claim(site, "one"))
    assert claimed[0] == urgent
    assert claimed[1:4] == [small, small, huge]
    assert claimed[-1] == idle
    assert paused not in claimed
    with site.catalog.read() as connection:
        held = waves.open_waves(connection, "one")
    assert [wave.request_id for wave in held] == [huge, small, idle, urgent]


def test_who_had_less_of_the_drives_is_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "AHEAD", timedelta(seconds=2))
    huge = ask(site, *([name] for name in HERE[:12]), values={"estimate": 1.0})
    first = claim(site, "one")
    assert of(site, first) == [huge] * 4
    small = ask(site, ["S"], ["T"], values={"estimate": 1.0})
    for batch_id in first:
        end(site, batch_id)
    assert of(site, claim(site, "two")) == [small, huge, small, huge]


def test_no_more_is_claimed_than_the_drives_read_in_an_hour(site: Site) -> None:
    ask(site, *([name] for name in HERE), values={"estimate": 900.0})
    first = claim(site, "one")
    assert len(first) == 8
    for batch_id in first[:3]:
        end(site, batch_id)
        assert claim(site, "two") == []
    end(site, first[3])
    assert len(claim(site, "two")) == 4


def test_the_next_wave_begins_when_half_of_one_is_left(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = site.config.restore.model_copy(update={"wave_batches": 10})
    monkeypatch.setattr(site, "config", site.config.model_copy(update={"restore": config}))
    ask(site, *([name] for name in HERE))
    first = claim(site, "one")
    assert len(first) == 10
    for batch_id in first[:5]:
        assert claim(site, "two") == []
        end(site, batch_id)
    assert len(claim(site, "two")) == 10


def test_long_batches_keep_all_drives_busy(site: Site) -> None:
    ask(site, *([name] for name in HERE), values={"estimate": 1e6})
    first = claim(site, "one")
    assert len(first) == 2 * site.config.library.drives
    assert claim(site, "two") == []
    end(site, first[0])
    assert len(claim(site, "two")) == 1


def test_nothing_is_claimed_that_the_staging_disk_has_no_room_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = site.config.staging.reserve
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(reserve + 100))
    ask(site, *(["A", "B"] for _ in range(4)), values={"kind": "gather", "bytes": 20})
    first = claim(site, "one")
    assert len(first) == 2
    assert claim(site, "two") == []
    end(site, first[0])
    assert len(claim(site, "two")) == 1


def test_what_can_never_have_room_is_claimed_alone_to_say_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(0))
    ask(site, *(["A", "B"] for _ in range(4)), values={"kind": "gather", "bytes": 20})
    assert len(claim(site, "one")) == 1
    assert claim(site, "two") == []


def test_a_slowed_request_has_no_more_at_once_than_it_may(site: Site) -> None:
    slow = ask(site, *([name] for name in HERE[:4]), at_once=2)
    other = ask(site, ["A"])
    first = claim(site, "one")
    assert sorted(of(site, first)) == [slow, slow, other]
    with site.catalog.read() as connection:
        assert has_room(connection, site) == {other}
    assert claim(site, "two") == []
    end(site, next(number for number in first if of(site, [number]) == [slow]))
    assert of(site, claim(site, "two")) == [slow]


def test_what_was_put_off_waits_for_another_wave_and_is_no_try(site: Site) -> None:
    request_id = ask(site, ["A"], ["B"], ["C"])
    put_off, dead, never_begun = claim(site, "one")
    with site.catalog.write() as connection:
        batches.begin_batch(connection, put_off, site.clock.now())
        waves.slow_down(connection, request_id, put_off)
    begin(site, dead)
    assert settle(site, "one") == {BatchState.FAILED: 2}
    after = {batch.id: batch for batch in found(site)}
    assert (after[put_off].state, after[put_off].wave_id) == (BatchState.PLANNED, None)
    assert {after[dead].state, after[never_begun].state} == {BatchState.FAILED}
    assert claim(site, "two") == [put_off]


def test_a_runner_killed_before_it_settled_claims_anew(site: Site) -> None:
    ask(site, ["A"])
    [only] = claim(site, "one")
    end(site, only)
    ask(site, ["B"])
    [other] = claim(site, "one")
    assert other != only
    with site.catalog.read() as connection:
        states = [waves.wave(connection, number).state for number in (1, 2)]
    assert states == [WaveState.SETTLED, WaveState.OPEN]


def test_who_else_holds_batches_is_told_while_these_are_open(site: Site) -> None:
    one, two = ask(site, ["A"]), ask(site, ["B"])
    assert held_by_others(site, "here", [one, two]) == []
    claim(site, "there")
    assert held_by_others(site, "here", [one]) == ["there"]
    assert held_by_others(site, "there", [one]) == []
    for batch in found(site, one):
        end(site, batch.id)
    assert held_by_others(site, "here", [one]) == []
    assert held_by_others(site, "here", [one, two]) == ["there"]


def test_settling_ends_the_waves_of_all_requests(site: Site) -> None:
    ask(site, ["A"])
    ask(site, ["B"])
    for batch_id in claim(site, "one"):
        end(site, batch_id)
    assert settle(site, "one") == {BatchState.DONE: 2}
    assert settle(site, "one") == {}


def test_batches_of_an_abandoned_wave_that_nobody_began_are_cancelled(site: Site) -> None:
    ask(site, ["A"], ["B"])
    first, _ = claim(site, "one")
    begin(site, first)
    with site.catalog.read() as connection:
        [wave] = waves.open_waves(connection)
    counts = settle_wave(site, wave.id, abandoned=True)
    assert counts == {BatchState.FAILED: 1, BatchState.CANCELLED: 1}


def test_one_claim_takes_all_that_is_wanted_of_a_volume(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "AHEAD", timedelta(seconds=1))
    monkeypatch.setattr(claiming, "_DEEP", 0)
    one = ask(site, ["A"], ["B"], ["C"], values={"estimate": 5.0})
    other = ask(site, ["C"], ["A"], values={"estimate": 5.0})
    claimed = claim(site, "one")
    assert sorted(of(site, claimed)) == [one, other]
    assert {batch.volumes for batch in found(site) if batch.id in claimed} == {("A",)}
