from pathlib import Path

import pytest

from restore_lib.config import (
    LocalStoreConfig,
    S3StoreConfig,
    SftpStoreConfig,
    StoreConfig,
)
from restore_lib.drills.scratch import check_scratch, clean, overlap
from restore_lib.errors import Refused
from tests.support.sites import digests, make_site, write_files


def local(path: Path) -> StoreConfig:
    return LocalStoreConfig(kind="local", path=path)


def s3(bucket: str, prefix: str = "", endpoint: str | None = None) -> StoreConfig:
    return S3StoreConfig(kind="s3", bucket=bucket, prefix=prefix, endpoint_url=endpoint)


def sftp(host: str, path: str) -> StoreConfig:
    return SftpStoreConfig(kind="sftp", host=host, user="u", path=path, known_hosts=Path("k"))


def test_folders_overlap_also_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "live")
    live = local(tmp_path / "live")
    assert overlap(live, local(tmp_path / "link"))
    assert overlap(live, local(tmp_path / "live" / "below"))
    assert overlap(local(tmp_path), live)
    assert not overlap(live, local(tmp_path / "live2"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (s3("a"), s3("a"), True),
        (s3("a"), s3("a", "scratch/"), True),
        (s3("a", "data"), s3("a", "database/"), True),
        (s3("a", "data/"), s3("a", "scratch/"), False),
        (s3("a"), s3("b"), False),
        (s3("a"), s3("a", endpoint="http://other"), False),
        (sftp("h", "/data"), sftp("h", "/data/x"), True),
        (sftp("h", "/data"), sftp("h", "/scratch"), False),
        (sftp("h", "/data"), sftp("g", "/data"), False),
        (sftp("h", "/data"), s3("data"), False),
    ],
)
def test_stores_that_share_a_place(one: StoreConfig, other: StoreConfig, same: bool) -> None:
    assert overlap(one, other) is same
    assert overlap(other, one) is same


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
