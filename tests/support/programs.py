"""Real programs for tests: found, or installed from Debian; a test is never skipped for one."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGES = {
    "age": "age",
    "age-keygen": "age",
    "dd": "coreutils",
    "mt": "mt-st",
    "openssl": "openssl",
    "python3": "python3",
    "sha256sum": "coreutils",
    "sshd": "openssh-server",
    "tar": "tar",
    "truncate": "coreutils",
    "zstd": "zstd",
}
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def require_program(name: str, package: str | None = None) -> Path:
    """Return the path of a program; install its Debian package when it is missing and we are root.

    Fails the test with what to do when it can be neither found nor installed.
    """
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        package = package or PACKAGES.get(name, name)
        _install(package)
        found = shutil.which(name, path=_SEARCH)
        if found is None:
            raise AssertionError(f"{name} is missing: the Debian package {package} has none")
    return Path(found)


def _install(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise AssertionError(f"a test needs the program from {package}: apt-get install {package}")
    with (Path(tempfile.gettempdir()) / "tapeflow-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install = ["apt-get", "install", "-y", "--no-install-recommends", package]
        wait = ["-o", "DPkg::Lock::Timeout=300"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        done = _run([*install, *wait], environment)
        if done.returncode:
            _run(["apt-get", "update", *wait], environment)
            done = _run([*install, *wait], environment)
    if done.returncode:
        raise AssertionError(f"apt-get install {package} failed:\n{done.stdout}{done.stderr}")


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
