from pathlib import Path

import pytest

from restore_lib.drills.scratch import check_scratch, clean
from restore_lib.errors import Refused
from tests.support.sites import digests, make_site, write_files


def test_a_store_of_value_is_never_scratch(tmp_path: Path) -> None:
    extra = (
        '[stores.alias]\nkind = "local"\npath = "live"\n[stores.kept]\nkind = "local"\npath = "k"'
    )
    site = make_site(tmp_path, policy='alternates = ["kept"]', extra=extra, blank=0)
    for name in ("live", "alias", "kept"):
        with pytest.raises(Refused, match="which a policy needs"):
            check_scratch(site, name)
    check_scratch(site, "out")


def test_a_scratch_store_with_something_in_it_is_refused(tmp_path: Path) -> None:
    site = make_site(tmp_path, blank=0)
    write_files(tmp_path / "out", {b"somebody's": b"work"})
    with pytest.raises(Refused, match="not empty"):
        check_scratch(site, "out")


def test_only_the_named_objects_are_deleted(tmp_path: Path) -> None:
    site = make_site(tmp_path, blank=0)
    write_files(tmp_path / "out", {b"a/b": b"", b"a/c": b"", b"d": b""})
    refused = [b"a//x", b"d" * 256]
    assert clean(site, "out", [*refused, b"a/b", b"gone", b"d"]) == 5
    assert digests(tmp_path / "out").keys() == {b"a/c"}
