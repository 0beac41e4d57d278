"""The airflow.cfg of a local Airflow: SQLite, LocalExecutor, loopback, one generated user."""

import configparser
import io
import json
import os
import secrets
import socket
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

USER = "admin"


@dataclass(frozen=True, slots=True)
class Tuning:
    """What differs between a demonstration and a test.

    ``parallelism`` is the number of tasks that run at once; ``loss_timeout`` the seconds of silence
    after which a task, scheduler or triggerer counts as dead and its work is given to another.
    """

    parallelism: int = 16
    loss_timeout: int = 60


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one AIRFLOW_HOME."""

    path: Path

    @property
    def config(self) -> Path:
        """airflow.cfg: settings and generated secrets, readable by its owner only."""
        return self.path / "airflow.cfg"

    @property
    def database(self) -> Path:
        """The SQLite metadata database."""
        return self.path / "airflow.db"

    @property
    def passwords(self) -> Path:
        """The generated password of the one user, readable by its owner only."""
        return self.path / "passwords.json"

    @property
    def components(self) -> Path:
        """The folder with the log and the pid of each component."""
        return self.path / "components"


def write_settings(home: Home, *, dags: Path, plugins: Path, tuning: Tuning) -> str:
    """Write airflow.cfg and the password file; return the base URL of the api-server.

    Secrets, password and port of a former start are kept, the port only while it is free.
    """
    old = configparser.ConfigParser(interpolation=None)
    old.read(home.config, encoding="utf-8")
    if not home.passwords.exists():
        _write_private(home.passwords, json.dumps({USER: secrets.token_urlsafe(12)}) + "\n")
    port = _usable_port(old.getint("api", "port", fallback=0))
    url = f"http://127.0.0.1:{port}"
    sections: dict[str, dict[str, object]] = {
        "core": _core(home, dags, plugins, tuning, url),
        "database": {
            # One writer at a time: the others wait for the lock instead of failing.
            "sql_alchemy_conn": f"sqlite:///{home.database}?timeout=120",
        },
        "api": {"host": "127.0.0.1", "port": port, "base_url": url, "auto_refresh_interval": 2},
        "logging": {"base_log_folder": home.path / "logs", "colored_console_log": False},
        "sdk": _sdk(plugins),
        "workers": {
            "min_heartbeat_interval": min(5, max(1, tuning.loss_timeout // 4)),
            "max_failed_heartbeats": 100,
        },
        "scheduler": _scheduler(tuning),
        "triggerer": {
            "job_heartbeat_sec": 2,
            "triggerer_health_check_threshold": min(30, tuning.loss_timeout),
        },
        "dag_processor": {
            "refresh_interval": 5,
            "bundle_refresh_check_interval": 2,
            # A file that has changed is read at once, whatever this is.
            "min_file_process_interval": 120,
        },
        "api_auth": {},
    }
    for section, option, length in (
        ("core", "fernet_key", 32),
        ("api", "secret_key", 32),
        ("api_auth", "jwt_secret", 64),
    ):
        kept = old.get(section, option, fallback="")
        sections[section][option] = kept or urlsafe_b64encode(secrets.token_bytes(length)).decode()
    new = configparser.ConfigParser(interpolation=None)
    for section, options in sections.items():
        new[section] = {name: str(value).replace("%", "%%") for name, value in options.items()}
    text = io.StringIO()
    new.write(text)
    _write_private(home.config, text.getvalue())
    return url


def read_password(home: Home) -> str:
    """Return the generated password of the one user."""
    return str(json.loads(home.passwords.read_text("utf-8"))[USER])


def _core(home: Home, dags: Path, plugins: Path, tuning: Tuning, url: str) -> dict[str, object]:
    return {
        "executor": "LocalExecutor",
        "mp_start_method": "fork",
        "parallelism": tuning.parallelism,
        "max_active_tasks_per_dag": max(16, tuning.parallelism),
        "dags_folder": dags,
        "plugins_folder": plugins,
        "load_examples": False,
        "dags_are_paused_at_creation": False,
        "execution_api_server_url": f"{url}/execution/",
        "simple_auth_manager_users": f"{USER}:admin",
        "simple_auth_manager_passwords_file": home.passwords,
        "min_serialized_dag_update_interval": 5,
    }


def _sdk(plugins: Path) -> dict[str, object]:
    """Have our coordinator run the tasks, where it is among the plugins."""
    if not (plugins / "tapeflow_airflow").is_dir():
        return {}
    classpath = "tapeflow_airflow.coordinators.PromptCoordinator"
    return {
        "coordinators": json.dumps({"prompt": {"classpath": classpath}}),
        "queue_to_coordinator": json.dumps({"default": "prompt", "drives": "prompt"}),
    }


def _scheduler(tuning: Tuning) -> dict[str, object]:
    return {
        "task_instance_heartbeat_timeout": tuning.loss_timeout,
        "task_instance_heartbeat_timeout_detection_interval": min(5, tuning.loss_timeout),
        "scheduler_health_check_threshold": max(
            min(30, tuning.loss_timeout), tuning.loss_timeout // 2
        ),
        "orphaned_tasks_check_interval": min(30, tuning.loss_timeout),
        "scheduler_heartbeat_sec": 2,
        "job_heartbeat_sec": 2,
    }


def _write_private(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    beside.replace(path)


def _usable_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
