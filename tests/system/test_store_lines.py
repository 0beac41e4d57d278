"""The whole line over every kind of store: from S3 to tape, and back to S3, SFTP and a folder."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.backup.run import begin_backup, commit_backup, job_ids, plan_backup, run_job
from restore_lib.catalog import requests
from restore_lib.model.states import ItemState
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from tests.support.s3server import S3Server, running_s3_server
from tests.support.sites import ACTOR, make_site, restore
from tests.support.sshd import Sshd, running_sshd

OBJECTS = {
    b"notes/plain.txt": b"hello",
    b"notes/../up.txt": b"a name that a folder can't hold",
    "übung/naïve ☃".encode(): b"x" * 70_000,
    b"empty": b"",
    b"large.bin": bytes(range(256)) * 6_000,
}
STORES = """
[stores.cloud]
kind = "s3"
bucket = "{bucket}"
endpoint_url = "{endpoint}"
[policies.cloud]
store = "cloud"
k = 2
m = 1
block_size = "4KiB"
segment_size = "256KiB"
[stores.copy]
kind = "s3"
bucket = "{copy}"
endpoint_url = "{endpoint}"
[stores.remote]
kind = "sftp"
host = "127.0.0.1"
port = {port}
user = "root"
path = "{remote}"
known_hosts = "{known_hosts}"
key_file = "{key_file}"
"""


@pytest.fixture
def cloud() -> Iterator[S3Server]:
    with running_s3_server() as server:
        yield server


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Sshd]:
    (tmp_path / "sshd").mkdir()
    with running_sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, cloud: S3Server, remote: Sshd) -> Iterator[Site]:
    (tmp_path / "remote").mkdir()
    extra = STORES.format(
        bucket=cloud.bucket(versioned=True),
        copy=cloud.bucket(),
        endpoint=cloud.endpoint_url,
        port=remote.port,
        remote=tmp_path / "remote",
        known_hosts=remote.known_hosts,
        key_file=remote.key_file,
    )
    made = make_site(tmp_path / "site", extra=extra)
    store = made.store("cloud")
    for key, data in OBJECTS.items():
        digest = hashlib.sha256(data).hexdigest()
        store.put(
            key,
            [data],
            size=len(data),
            sha256=digest,
            content_type="text/x-test",
            metadata={"owner": "ann"},
        )
    point = begin_backup(made, "cloud", ACTOR)
    for job_id in job_ids(made, point.id):
        run_job(made, job_id, ACTOR)
    commit_backup(made, point.id, ACTOR)
    yield made
    made.close()


def contents(site: Site, name: str) -> dict[bytes, bytes]:
    store = site.store(name)
    found = {}
    for listed in store.list():
        with store.open(listed.key) as stream:
            found[listed.key] = stream.read()
    return found


def test_objects_come_back_to_s3_with_their_metadata(site: Site) -> None:
    request_id = restore(site, RestoreSpec(store="cloud", prefix=b"", target="copy"))
    with site.catalog.read() as connection:
        assert requests.count_items(connection, request_id)[ItemState.RESTORED] == len(OBJECTS)
    assert contents(site, "copy") == OBJECTS
    head = site.store("copy").head(b"notes/plain.txt")
    assert head is not None
    assert head.content_type == "text/x-test"
    assert head.metadata["owner"] == "ann"


def test_a_second_backup_finds_nothing_new_by_version(site: Site) -> None:
    plan = plan_backup(site, "cloud")
    assert plan.counts["same"] == len(OBJECTS)
    assert plan.jobs == ()


@pytest.mark.parametrize("target", ["remote", "out"])
def test_a_name_that_the_target_can_not_hold_fails_by_name(site: Site, target: str) -> None:
    request_id = restore(site, RestoreSpec(store="cloud", prefix=b"", target=target))
    held = {key: data for key, data in OBJECTS.items() if b".." not in key}
    assert contents(site, target) == held
    with site.catalog.read() as connection:
        counts = requests.count_items(connection, request_id)
        refused = requests.keys_in(connection, request_id, ItemState.FAILED, 10)
    assert counts[ItemState.RESTORED] == len(held)
    assert refused == [b"notes/../up.txt"]


def test_an_object_that_the_service_refuses_to_read_is_named_and_the_others_are_backed_up(
    site: Site, cloud: S3Server
) -> None:
    store = site.store("cloud")
    for key in (b"sealed", b"open"):
        store.put(key, [b"data"], size=4, sha256=hashlib.sha256(b"data").hexdigest())

    def fail(method: str, path: str) -> tuple[str, str] | None:
        sealed = method in {"GET", "HEAD"} and path.endswith("/sealed")
        return ("400 Bad Request", "InvalidRequest") if sealed else None

    cloud.fail = fail
    point = begin_backup(site, "cloud", ACTOR)
    for job_id in job_ids(site, point.id):
        run_job(site, job_id, ACTOR)
    summary = commit_backup(site, point.id, ACTOR).summary
    assert set(summary["unreadable"]) == {"sealed"}
    assert summary["backed_up"] == 1
