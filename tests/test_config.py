"""tapeflow.toml and the environment: what is wrong stops at load, named with a remedy."""

from datetime import timedelta
from pathlib import Path

import pytest

from restore_lib.config import config_path, load_config, overlap
from restore_lib.config_tables import (
    LocalStoreConfig,
    RetentionConfig,
    S3StoreConfig,
    SftpStoreConfig,
    StoreConfig,
)
from restore_lib.errors import ConfigError, Next

BASE = """
[cluster]
id = "camp"
[keys]
recipients = ["age1operating"]
[stores.live]
kind = "local"
path = "live"
"""
FULL = """
[catalog]
url = "sqlite:///state/catalog.db"
[staging]
path = "/scratch/staging"
reserve = "2GiB"
[stores.shop]
kind = "s3"
bucket = "originals"
endpoint_url = "https://s3.example"
[stores.rehearsal]
kind = "sftp"
host = "host"
user = "ann"
path = "/srv"
known_hosts = "known_hosts"
[policies.photos]
store = "live"
k = 8
m = 2
block_size = "1MiB"
alternates = ["shop"]
rpo = "52w"
rto = "1.5h"
[policies.photos.retention]
keep_within = "90d"
minimum_redundancy = 5
[reclaim]
quarantine = "4w"
[library]
drives = 4
lease = "2 min"
[couriers.van]
path = "van"
[vaults.north]
courier = "van"
[drills.monthly]
policy = "photos"
scratch = "rehearsal"
"""


RETENTION = '[policies.p]\nstore = "live"\n[policies.p.retention]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tapeflow.toml"


def refused(file: Path, text: str) -> ConfigError:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.remedy
    assert caught.value.next is Next.PERSON
    return caught.value


def test_what_is_not_set_has_its_default(file: Path, tmp_path: Path) -> None:
    file.write_text(BASE)
    config = load_config(file)
    assert config.cluster.id == "camp"
    assert config.catalog.url == f"sqlite:///{tmp_path}/catalog.db"
    assert config.staging.path == tmp_path / "staging"
    assert config.library.path == tmp_path / "tapes"
    assert config.restore.reports == tmp_path / "reports"
    assert (config.library.drives, config.library.lease) == (2, timedelta(seconds=60))


def test_every_section(file: Path, tmp_path: Path) -> None:
    file.write_text(BASE + FULL)
    config = load_config(file)
    policy = config.policies["photos"]
    assert (policy.k, policy.m, policy.block_size) == (8, 2, 1 << 20)
    assert (policy.rpo, policy.rto) == (timedelta(weeks=52), timedelta(minutes=90))
    kept = policy.retention
    assert kept == RetentionConfig(keep_within=timedelta(days=90), minimum_redundancy=5)
    assert config.reclaim.quarantine == timedelta(weeks=4)
    assert config.staging.reserve == 2 << 30
    assert config.staging.path == Path("/scratch/staging")
    assert config.catalog.url == f"sqlite:///{tmp_path}/state/catalog.db"
    assert config.library.lease == timedelta(minutes=2)
    assert config.couriers["van"].path == tmp_path / "van"
    assert config.stores["rehearsal"].kind == "sftp"


@pytest.mark.parametrize(
    "url", ["sqlite:////var/catalog.db", "postgresql+psycopg://ann:secret@host/catalog"]
)
def test_an_absolute_catalog_stays(file: Path, url: str) -> None:
    file.write_text(f'{BASE}[catalog]\nurl = "{url}"')
    assert load_config(file).catalog.url == url


def test_the_environment_goes_over_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW__LIBRARY__DRIVES", "7")
    monkeypatch.setenv("TAPEFLOW__STORES__LIVE__PATH", "elsewhere")
    monkeypatch.setenv("TAPEFLOW__KEYS__RECIPIENTS", '["age1other"]')
    monkeypatch.setenv("TAPEFLOW__RESTORE__ROUNDS", "9")
    file.write_text(f"{BASE}[library]\ndrives = 3\nslots = 5\n")
    config = load_config(file)
    assert (config.library.drives, config.library.slots, config.restore.rounds) == (7, 5, 9)
    live = config.stores["live"]
    assert isinstance(live, LocalStoreConfig)
    assert live.path == tmp_path / "elsewhere"
    assert config.keys.recipients == ["age1other"]


def test_the_file_is_named_by_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPEFLOW_CONFIG", raising=False)
    assert config_path() == Path("tapeflow.toml")
    file.write_text(BASE)
    monkeypatch.setenv("TAPEFLOW_CONFIG", str(file))
    assert load_config().cluster.id == "camp"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path / "none")) as caught:
        load_config(tmp_path / "none")
    assert "TAPEFLOW_CONFIG" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("x =", "can't be read", "correct the file"),
        (f'{BASE}[cluster]\nid = "b"', "can't be read", "correct the file"),
        ('[cluster]\nid = "b"', "'keys' is missing (1 more", "set keys"),
        (f"{BASE}[polices.x]", "unknown key 'polices'", "did you mean 'policies'?"),
        (f"{BASE}[library]\nslot = 1", "unknown key 'library.slot'", "did you mean 'slots'?"),
        (f"{BASE}[library]\nxyzzy = 1", "unknown key 'library.xyzzy'", "remove it"),
        (f"{BASE}encryption = true", "unknown key 'stores.live.encryption'", ""),
        (f"{BASE}[library]\nslots = 0", "library.slots = 0", "correct"),
        (f"{BASE}[library]\nslots = true", "slots can't be true or false", "correct"),
        (f"{BASE}[library]\nlease = 60", "library.lease = 60", "correct"),
        (f'{BASE}[library]\nlease = "0s"', "library.lease", "correct"),
        (f'{BASE}[library]\nlease = "soon"', "'4h'", "correct"),
        (f'{BASE}[library]\nlease = "-4h"', "'4h'", "correct"),
        (f'{BASE}[library]\nlease = "{"9" * 400}d"', "'4h'", "correct"),
        (f'{BASE}[library]\nlease = "9999999999d"', "'4h'", "correct"),
        (f'{BASE}[policies.{"p" * 49}]\nstore = "live"', "policies.", "correct"),
        (f'{BASE}[library]\ncapacity = "0"', "library.capacity = '0'", "correct"),
        (f'{BASE}[library]\ncapacity = "much"', "library.capacity = 'much'", "correct"),
        (f"{BASE}[restore]\nbatch_size = 0", "restore.batch_size = 0", "correct"),
        (f'{BASE}[stores.s3]\nkind = "s3"', "'stores.s3.bucket' is missing", "stores.s3.bucket"),
        (f'{BASE}[stores.b]\nkind = "ftp"', "'ftp'", "correct"),
        (f'{BASE}[stores.Bad]\nkind = "local"\npath = "b"', "stores.Bad", "correct"),
        (f'{BASE}[policies.p]\nstore = "lost"', "'lost', which is not defined", "correct"),
        (f'{BASE}[policies.p]\nstore = "live"\nalternates = ["x"]', "alternates names", "correct"),
        (f'{BASE}[policies.p]\nstore = "live"\nblock_size = 1000', "multiple of 512", "correct"),
        (f'{BASE}[policies.p]\nstore = "live"\nk = 29', "policies.p.k = 29", "correct"),
        (f"{BASE}{RETENTION}", "'policies.p.retention.keep_within' is missing", "set policies"),
        (f'{BASE}{RETENTION}keep_within = "0s"', "retention.keep_within", "correct"),
        (f'{BASE}{RETENTION}keep_within = "101w"\nkeep = 3', "'policies.p.retention.keep'", ""),
        (f'{BASE}{RETENTION}keep_within = "9999999d"', "retention.keep_within", "correct"),
        (
            f'{BASE}{RETENTION}keep_within = "1d"\nminimum_redundancy = 0',
            "retention.minimum_redundancy = 0",
            "correct",
        ),
        (f'{BASE}[reclaim]\nquarantine = "59min"', "reclaim.quarantine", "correct"),
        (f'{BASE}[vaults.v]\ncourier = "van"', "vaults.v.courier names 'van'", "correct"),
        (
            f'{BASE}[policies.p]\nstore = "live"\n[policies.q]\nstore = "live"',
            "one policy only",
            "correct",
        ),
    ],
)
def test_what_is_wrong_is_named(file: Path, text: str, said: str, remedy: str) -> None:
    error = refused(file, text)
    assert said in error.message
    assert str(file) in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize("path", ["live", "live/below", ".", "./live/../live"])
def test_a_drill_never_empties_a_store_in_use(file: Path, path: str) -> None:
    text = f"""{BASE}
[stores.rehearsal]
kind = "local"
path = "PATH"
[policies.p]
store = "live"
[drills.d]
policy = "p"
scratch = "SCRATCH"
"""
    within = text.replace("PATH", path).replace("SCRATCH", "rehearsal")
    assert "would empty 'live'" in refused(file, within).message
    itself = text.replace("PATH", "apart").replace("SCRATCH", "live")
    assert "would empty 'live'" in refused(file, itself).message
    file.write_text(text.replace("PATH", "live-rehearsal").replace("SCRATCH", "rehearsal"))
    assert load_config(file).drills["d"].scratch == "rehearsal"


def test_a_drill_never_empties_an_alternate_store(file: Path) -> None:
    text = (BASE + FULL).replace('scratch = "rehearsal"', 'scratch = "shop"')
    assert "would empty 'shop'" in refused(file, text).message


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TAPEFLOW__LIBARY__DRIVES", "1", "TAPEFLOW__LIBARY__DRIVES"),
        ("TAPEFLOW__LIBRARY__DRIVE", "1", "library.drive"),
        ("TAPEFLOW__LIBRARY__DRIVES", "two", "library.drives = 'two'"),
        ("TAPEFLOW__KEYS__RECIPIENTS", "age1other", "can't be parsed"),
    ],
)
def test_a_wrong_variable_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert said in refused(file, BASE).message


def test_keys_are_never_shown(file: Path) -> None:
    secret = "AGE-SECRET-KEY-1QQQ"
    for line in (f'recipients = "{secret}"', f'recipients = ["a"]\nidentity_file = ["{secret}"]'):
        error = refused(file, BASE.replace('recipients = ["age1operating"]', line))
        assert secret not in f"{error}{error.remedy}{error.context}"
        assert error.__suppress_context__


def test_a_password_of_the_catalog_is_never_shown(file: Path) -> None:
    error = refused(file, f'catalog = "postgresql://ann:secret@host/tapeflow"\n{BASE}')
    assert "'catalog'" in error.message or "catalog:" in error.message
    assert "secret" not in f"{error}{error.remedy}{error.context}"


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
def test_a_relative_catalog_begins_at_the_file(file: Path, scheme: str) -> None:
    file.write_text(f'{BASE}[catalog]\nurl = "{scheme}:///state/catalog.db"')
    assert load_config(file).catalog.url == f"{scheme}:///{file.parent}/state/catalog.db"


def test_a_config_does_not_change(file: Path) -> None:
    file.write_text(BASE)
    config = load_config(file)
    with pytest.raises(ValueError, match="frozen"):
        config.library.drives = 3


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
