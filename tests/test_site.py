from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.errors import CatalogMismatch, KeyUnusable, LibraryOffline, Refused
from restore_lib.model.clock import SystemClock
from restore_lib.site import Site
from tests.support.sites import make_site, open_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, blank=2)
    yield made
    made.close()


def test_a_site_opens_what_the_config_names(site: Site) -> None:
    assert isinstance(site.clock, SystemClock)
    assert site.store("live").name == "live"
    assert site.store("live") is site.store("live")
    assert site.library.drives == 2
    assert site.recipients.names == tuple(site.config.keys.recipients)
    assert [i.recipient for i in site.identities] == site.config.keys.recipients
    assert site.staging.is_dir()
    site.catalog.check()


def test_nothing_is_opened_before_it_is_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "operating.txt").unlink()
    (tmp_path / "catalog.db").unlink()
    (tmp_path / "tapes" / "dock").rmdir()
    other = open_site(tmp_path)
    with pytest.raises(KeyUnusable):
        _ = other.identities
    with pytest.raises(CatalogMismatch):
        _ = other.catalog
    with pytest.raises(LibraryOffline):
        _ = other.library
    other.close()


def test_without_an_identity_file_there_is_no_key(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "tapeflow.toml"
    config.write_text(config.read_text().replace('identity_file = "operating.txt"', ""))
    other = Site.load(config)
    with pytest.raises(KeyUnusable, match="identity_file"):
        _ = other.identities
    other.close()


def test_policies_are_found_by_name_and_by_store(site: Site) -> None:
    found = site.policy_of("live")
    assert found is not None
    assert found == ("live", site.policy("live"))
    assert site.policy_of("out") is None
    with pytest.raises(Refused, match="use one of live"):
        site.policy("gold")


def test_an_unknown_store_is_refused_with_those_that_are_known(site: Site) -> None:
    with pytest.raises(Refused, match="use one of live, out"):
        site.store("lvie")
