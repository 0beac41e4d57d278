import importlib
import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from restore_lib.config import load_config
from restore_lib.tape.age import load_identities
from tests.support.programs import require_program

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "tests" / "data" / "compose-spec" / "compose-spec.json"
COMPOSE = ROOT / "docker-compose.yml"
DEPLOY = ROOT / "deploy"
REFERENCE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")
SECRET = re.compile(r"PASSWORD|SECRET|_KEY\b|TOKEN|IDENTITY|RECIPIENTS|AUTH$")
PUBLIC_SETTINGS = {"AIRFLOW__CORE__AUTH_MANAGER", "TAPEFLOW__KEYS__IDENTITY_FILE"}
ONE_SHOT = {"airflow-init", "s3-bucket"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def filled_in(text: str, environment: dict[str, str]) -> str:
    """Interpolate as Compose does; a variable that is required and not set, or empty: KeyError."""

    def value(match: re.Match[str]) -> str:
        name, rest = match["name"], match["rest"]
        if rest.startswith(":-"):
            return environment.get(name) or rest[2:]
        if not environment.get(name):
            raise KeyError(name)
        return environment[name]

    return REFERENCE.sub(value, text).replace("$$", "$")


def settings(services: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            found.setdefault(name, set()).add(str(value))
    return found


def test_it_is_a_compose_file(compose: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []
    broken = compose | {"services": {"redis": {"imagine": "redis"}}}
    assert not validator.is_valid(broken)


def test_all_parts_of_the_production_shape_are_there(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == ONE_SHOT | {
        "airflow-apiserver",
        "airflow-dag-processor",
        "airflow-db",
        "airflow-scheduler",
        "airflow-triggerer",
        "airflow-worker",
        "airflow-worker-drives",
        "catalog-db",
        "redis",
        "s3",
        "vault-vendor",
    }
    assert services["airflow-worker"]["command"].split()[-2:] == ["--queues", "default"]
    assert "--queues drives" in services["airflow-worker-drives"]["command"]


def test_each_service_is_given_what_it_needs_and_no_more(
    services: dict[str, dict[str, Any]],
) -> None:
    def given(what: str) -> set[str]:
        return {name for name, service in services.items() if what in json.dumps(service)}

    drives = "airflow-worker-drives"
    assert given("age_identity") == given("TAPEFLOW__KEYS__IDENTITY_FILE") == {drives}
    assert given("S3_SECRET_KEY") == {drives, "s3", "s3-bucket"}
    opening = {"airflow-init", "airflow-triggerer", drives}
    assert given("TAPEFLOW__CATALOG__URL") == opening
    assert given("CATALOG_DB_PASSWORD") == opening | {"catalog-db"}
    assert given("courier:/") == {"airflow-triggerer", drives, "vault-vendor"}
    assert given("tapes:/") == given("staging:/") == given("reports:/") == {drives}


def test_a_container_of_compose_run_is_the_same_runner(
    services: dict[str, dict[str, Any]],
) -> None:
    """A runner is named after its host, by a name that the api-server can fetch logs from."""
    named = {name: s["hostname"] for name, s in services.items() if "hostname" in s}
    assert named == {"airflow-worker-drives": "airflow-worker-drives"}


def test_secrets_come_from_the_environment_and_have_no_default(
    services: dict[str, dict[str, Any]],
) -> None:
    references = list(REFERENCE.finditer(COMPOSE.read_text("utf-8")))
    secrets = [match for match in references if SECRET.search(match["name"])]
    assert len({match["name"] for match in secrets}) >= 11
    for match in secrets:
        assert match["rest"].startswith(":?"), match[0]
        assert len(match["rest"]) > len(":?"), match[0]
    for name, values in settings(services).items():
        if SECRET.search(name) and name not in PUBLIC_SETTINGS:
            assert all(REFERENCE.fullmatch(value) for value in values), name
        for value in values:
            for password in re.findall(r"://[^/@]*:([^@/]+)@", REFERENCE.sub("REFERENCE", value)):
                assert password == "REFERENCE", name


def test_each_service_tells_its_health_or_ends(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if name in ONE_SHOT:
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name


def test_what_a_service_waits_for_can_come_true(services: dict[str, dict[str, Any]]) -> None:
    awaited = set()
    for name, service in services.items():
        for other, wish in service.get("depends_on", {}).items():
            awaited.add(other)
            if wish["condition"] == "service_completed_successfully":
                assert other in ONE_SHOT, name
            else:
                assert wish["condition"] == "service_healthy"
                assert "healthcheck" in services[other], name
    assert awaited >= ONE_SHOT


def test_images_are_pinned_and_volumes_declared(compose: dict[str, Any]) -> None:
    used = set()
    for service in compose["services"].values():
        tag = service["image"].partition(":")[2]
        assert re.search(r"\d", tag), service["image"]
        for volume in service.get("volumes", []):
            used.add(volume.partition(":")[0])
    assert used == set(compose["volumes"])


def test_every_airflow_setting_exists(services: dict[str, dict[str, Any]]) -> None:
    known = _airflow_options()
    assert ("core", "executor") in known
    assert ("celery", "broker_url") in known
    names = [name for name in settings(services) if name.startswith("AIRFLOW__")]
    assert len(names) >= 15
    unknown = [n for n in names if tuple(n.lower().split("__")[1:]) not in known]
    assert unknown == []


def _airflow_options() -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    core = importlib.import_module("airflow").__path__[0]
    text = Path(core, "config_templates", "config.yml").read_text("utf-8")
    sections = list(yaml.safe_load(text).items())
    for provider in ("celery", "fab"):
        module = importlib.import_module(f"airflow.providers.{provider}.get_provider_info")
        sections += module.get_provider_info().get("config", {}).items()
    for section, description in sections:
        found |= {(section.lower(), option.lower()) for option in description["options"]}
    return found


def test_what_the_settings_name_can_be_imported() -> None:
    code = """
from airflow.providers.celery.executors.celery_executor import CeleryExecutor, app
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
import psycopg, psycopg2, redis
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_builds_find_their_files(compose: dict[str, Any]) -> None:
    airflow = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert f"FROM apache/airflow:{version('apache-airflow')}-python3." in airflow
    for text, context in ((airflow, ROOT), ((DEPLOY / "vendor" / "Dockerfile").read_text(), None)):
        for line in text.splitlines():
            if line.startswith("COPY "):
                sources = [part for part in shlex.split(line)[1:-1] if not part.startswith("--")]
                assert sources
                for source in sources:
                    assert ((context or DEPLOY / "vendor") / source).exists(), source
    assert (ROOT / compose["configs"]["tapeflow"]["file"]).exists()
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split()
    for source in re.findall(r"^COPY --chown=airflow:0 (.*) \S+$", airflow, re.MULTILINE):
        assert {f"!{part}" for part in source.split()} <= set(ignored)


def test_fresh_secrets_fill_in_everything(
    services: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert new_env(tmp_path).returncode == 0
    secrets = read_env(tmp_path / ".env")
    with pytest.raises(KeyError, match="VENDOR_PUBLIC_KEY"):
        filled_in(COMPOSE.read_text("utf-8"), secrets)
    secrets["VENDOR_PUBLIC_KEY"] = "ssh-ed25519 AAAA vendor"
    filled_in(COMPOSE.read_text("utf-8"), secrets)

    worker = services["airflow-worker-drives"]["environment"]
    for name, value in worker.items():
        if name.startswith("TAPEFLOW__"):
            monkeypatch.setenv(name, filled_in(value, secrets))
    config = load_config(DEPLOY / "tapeflow.toml")
    assert config.catalog.url.startswith("postgresql+psycopg://tapeflow:")
    kept = [tmp_path / "deploy" / f"{name}-identity.txt" for name in ("age", "escrow")]
    assert config.keys.recipients == [load_identities(file)[0].recipient for file in kept]
    assert secrets["TAPEFLOW_IDENTITY_FILE"] == kept[0].relative_to(tmp_path).as_posix()
    assert str(config.keys.identity_file) == "/run/secrets/age_identity"
    mounts = {v.partition(":")[2] for v in services["airflow-worker-drives"]["volumes"]}
    paths = [config.staging.path, config.library.path, config.restore.reports]
    paths += [courier.path for courier in config.couriers.values()]
    assert {str(path) for path in paths} <= mounts


def new_env(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script that makes fresh secrets, in a checkout of its own."""
    require_program("age-keygen")
    require_program("openssl")
    script = folder / "deploy" / "new-env"
    script.parent.mkdir(exist_ok=True)
    script.write_bytes((DEPLOY / "new-env").read_bytes())
    return subprocess.run(["/bin/sh", script], capture_output=True, text=True, check=False)


def read_env(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text("utf-8").splitlines() if line[0] != "#"]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("there", [".env", "deploy/age-identity.txt", "deploy/escrow-identity.txt"])
def test_fresh_secrets_never_replace_what_is_there(tmp_path: Path, there: str) -> None:
    kept = tmp_path / there
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("kept")
    done = new_env(tmp_path)
    assert done.returncode == 1
    assert there in done.stderr
    assert kept.read_text("utf-8") == "kept"
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert made == {there}


def test_fresh_secrets_are_for_their_owner_alone_and_for_no_commit(tmp_path: Path) -> None:
    done = new_env(tmp_path)
    made = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "new-env"]
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    assert len(made) == 3
    for path in made:
        assert path.stat().st_mode & 0o077 == 0
        name = path.relative_to(tmp_path).as_posix()
        assert name in ignored
        assert name in done.stdout


def test_the_vendors_desk_takes_keys_and_serves_files_only(tmp_path: Path) -> None:
    sshd = require_program("sshd")
    key = tmp_path / "host"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    effective = subprocess.run(
        [sshd, "-T", "-f", DEPLOY / "vendor" / "sshd_config", "-h", key],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert {
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitrootlogin no",
        "disableforwarding yes",
        "forcecommand internal-sftp -l INFO -P symlink,hardlink",
        "allowusers vendor",
        "authenticationmethods publickey",
    } <= set(effective)


def test_the_vendors_desk_makes_no_links(tmp_path: Path) -> None:
    [options] = re.findall(
        r"^ForceCommand internal-sftp (.*)$",
        (DEPLOY / "vendor" / "sshd_config").read_text("utf-8"),
        re.MULTILINE,
    )
    require_program("sshd")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "batch").write_text("-symlink / outbox\n-ln batch inbox/link\nrename batch done\n")
    done = subprocess.run(
        ["sftp", "-b", "batch", "-D", f"/usr/lib/openssh/sftp-server {options}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.rglob("*")} == {"inbox", "done"}
