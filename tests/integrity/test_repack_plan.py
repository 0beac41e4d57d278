from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from restore_lib.catalog import tape_sets
from restore_lib.catalog.volumes import change, set_flag
from restore_lib.errors import Refused, RetryLater
from restore_lib.integrity.repack_plan import (
    RepackPlan,
    SetToRepack,
    check_ready,
    geometry_for,
    plan_repack,
)
from restore_lib.model.volume import Custody, Flag, Health, vault_place
from restore_lib.site import Site
from tests.support.repacks import NEXT, OLD, K, M, build, copied
from tests.support.sites import ACTOR, open_site

_OUT = (Custody.MOUNTABLE, Custody.NOTMOUNTABLE, Custody.COURIER, Custody.VAULT)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mostly-expired")
    build(root).close()
    return root


@pytest.fixture
def site(origin: Path, tmp_path: Path) -> Iterator[Site]:
    opened = open_site(copied(origin, tmp_path / "site"))
    yield opened
    opened.close()


def members(site: Site) -> tuple[str, ...]:
    with site.catalog.read() as connection:
        return tape_sets.tape_set(connection, OLD).barcodes


def vault(site: Site, *barcodes: str) -> None:
    with site.catalog.write() as connection:
        for before, after in pairwise(_OUT):
            place = vault_place("north")
            change(
                connection,
                barcodes,
                "custody",
                before,
                after,
                place=place,
                actor=ACTOR,
                reason="test",
                at=site.clock.now(),
            )


def harm(site: Site, health: Health, *barcodes: str) -> None:
    with site.catalog.write() as connection:
        at = site.clock.now()
        change(connection, barcodes, "health", Health.OK, health, actor=ACTOR, reason="test", at=at)


def planned(site: Site) -> SetToRepack:
    [one] = plan_repack(site, sets=[OLD]).sets
    return one


def test_a_sound_set_is_read_from_the_volumes_with_live_payloads(site: Site) -> None:
    one = planned(site)
    assert one.ready
    assert set(members(site)[:K]) <= set(one.sources) <= set(members(site))
    assert one.live_extents < one.extents
    check_ready(plan_repack(site))
    vault(site, *members(site)[K:])
    assert planned(site).ready
    assert set(planned(site).sources) == set(members(site)[:K])


def test_of_a_lost_volume_so_many_others_are_needed_as_rebuild_it(site: Site) -> None:
    held = members(site)
    vault(site, *held[1:])
    assert planned(site).away == held[1:K]
    harm(site, Health.BROKEN, held[0])
    assert planned(site).away == held[1 : K + 1]
    assert held[0] not in planned(site).sources
    with pytest.raises(Refused, match=r"TF0001L9.* are in the vault"):
        check_ready(plan_repack(site))


def test_a_suspect_volume_is_read_with_others_at_hand(site: Site) -> None:
    held = members(site)
    vault(site, held[K])
    harm(site, Health.SUSPECT, held[0])
    one = planned(site)
    assert one.ready
    assert one.sources[-1] == held[0]
    vault(site, held[K + 1])
    assert len(planned(site).away) == 0
    assert planned(site).sources == (*held[1:K], held[0])


def test_where_too_many_are_lost_what_is_readable_is_moved(site: Site) -> None:
    held = members(site)
    harm(site, Health.LOST, *held[1:])
    assert planned(site).sources == held[:1]
    harm(site, Health.LOST, held[0])
    one = planned(site)
    assert (one.why_not, one.ready) == ("its volumes with live payloads are lost", False)
    with pytest.raises(Refused, match="are lost"):
        check_ready(plan_repack(site))


def test_volumes_on_their_way_are_waited_for(site: Site) -> None:
    first = members(site)[0]
    with site.catalog.write() as connection:
        at = site.clock.now()
        for before, after in pairwise(_OUT[:3]):
            change(connection, [first], "custody", before, after, actor=ACTOR, reason="test", at=at)
    assert planned(site).coming == (first,)
    with pytest.raises(RetryLater, match=first):
        check_ready(plan_repack(site))
    with site.catalog.write() as connection:
        set_flag(connection, [first], Flag.MISSING, actor=ACTOR, reason="test", at=at)
    assert planned(site).ready


def test_only_closed_sets_of_known_policies_that_fit_are_repacked(site: Site) -> None:
    root = site.config.library.path.parent
    config = root / "tapeflow.toml"
    text = config.read_text()
    config.write_text(text.replace("[policies.live]", "[policies.other]"))
    with pytest.raises(Refused, match="'live' is not configured"):
        check_ready(plan_repack(open_site(root)))
    config.write_text(text.replace('capacity = "4MB"', 'capacity = "70KB"'))
    with pytest.raises(Refused, match="too large for"):
        check_ready(plan_repack(open_site(root)))
    with pytest.raises(Refused, match="live-00009"):
        plan_repack(site, sets=[OLD, "live-00009"])


def test_shares_and_names_choose(site: Site) -> None:
    assert [one.tape_set for one in plan_repack(site).sets] == [OLD]
    assert plan_repack(site, below=0.01).sets == ()
    check_ready(plan_repack(site, below=0.01))
    named = plan_repack(site, sets=[NEXT, OLD])
    assert [one.tape_set for one in named.sets] == [OLD, NEXT]
    [new] = named.new
    assert (new.payloads, new.tape_sets, new.volumes) == (
        sum(one.live_extents for one in named.sets),
        1,
        K + M,
    )


def test_segments_are_as_large_as_the_largest_payload_needs(site: Site) -> None:
    small = geometry_for(site, "live", site.recipients.names, 100)
    assert small.segment_size == 64 << 10
    large = geometry_for(site, "live", site.recipients.names, 1 << 20)
    assert 1 << 20 < large.segment_size < (1 << 20) + (64 << 10)
    assert large.segment_size % large.block_size == 0


def test_a_plan_is_plain_values(site: Site) -> None:
    plan = plan_repack(site)
    assert isinstance(plan, RepackPlan)
    shown = plan.as_dict()
    assert shown["sets"][0]["ready"] is True
    assert shown["new"][0]["policy"] == "live"
