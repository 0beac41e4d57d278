"""The programs that are compared: each backs up a corpus, and brings it back."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.measure import Cost, RunFailed, run

_REPOSITORY = Path(__file__).resolve().parent.parent
_BUILD = ["libacl1-dev", "libssl-dev", "liblz4-dev", "libxxhash-dev", "libzstd-dev", "pkg-config"]
_CONFIG = """\
[cluster]
id = "bench"

[keys]
recipients = ["{recipient}"]
identity_file = "key.txt"

[stores.live]
kind = "local"
path = "{corpus}"

[stores.back]
kind = "local"
path = "back"

[policies.live]
store = "live"
k = 4
m = {parity}
read_back = {read_back}
segment_size = "{segment}"

[library]
path = "tapes"
slots = 100
drives = {drives}
"""


class Contender(Protocol):
    """A backup program at work in a folder of its own."""

    name: str
    does: str
    verifies: bool

    def prepare(self, corpus: Path) -> None:
        """Make an empty repository."""
        ...

    def backup(self, corpus: Path) -> Cost:
        """Back the corpus up."""
        ...

    def restore(self) -> Cost:
        """Bring everything back."""
        ...

    def restored(self) -> Path:
        """Return the folder in which the corpus is again."""
        ...


@dataclass
class Tapeflow:
    """This project, as a user runs it."""

    folder: Path
    parity: int = 2
    drives: int = 6
    segment: str = "128MiB"
    read_back: bool = True
    name: str = "tapeflow"
    does: str = "4+2 parity, encrypted, fsynced, each tape read back; restore verifies SHA-256"
    verifies: bool = True

    def prepare(self, corpus: Path) -> None:
        """Make keys, config, catalog and a library of blank volumes."""
        self._run("keys", "generate", "key.txt", log="keys")
        recipient = next(
            line.rsplit(" ", 1)[1]
            for line in (self.folder / "key.txt").read_text().splitlines()
            if line.startswith("# public key")
        )
        text = _CONFIG.format(
            recipient=recipient,
            corpus=corpus,
            parity=self.parity,
            read_back=str(self.read_back).lower(),
            drives=self.drives,
            segment=self.segment,
        )
        (self.folder / "tapeflow.toml").write_text(text)
        (self.folder / "back").mkdir()
        self._run("catalog", "migrate", log="catalog")
        self._run("library", "create", log="library")
        blanks = [f"TF{number:04}L9" for number in range(1, 41)]
        self._run("library", "add-blank", *blanks, log="blanks")

    def backup(self, corpus: Path) -> Cost:  # noqa: ARG002 - the config names it
        """Run `tapeflow backup run`."""
        return self._run("backup", "run", "live", log="backup")

    def restore(self) -> Cost:
        """Run `tapeflow restore run --everything`."""
        return self._run(
            "restore",
            "run",
            "--store",
            "live",
            "--everything",
            "--to",
            "back",
            "--yes",
            log="restore",
        )

    def restored(self) -> Path:
        """Return the store that was restored to."""
        return self.folder / "back"

    def _run(self, *arguments: str, log: str) -> Cost:
        command = [sys.executable, "-m", "restore_lib.cli", *arguments]
        env = {"PYTHONPATH": str(_REPOSITORY), "TAPEFLOW_CONFIG": "tapeflow.toml"}
        return run(command, self.folder / f"{log}.log", cwd=self.folder, env=env)


@dataclass
class Restic:
    """restic, from Debian."""

    folder: Path
    name: str = "restic"
    does: str = "deduplicated, encrypted, no parity, no read-back; restore --verify"
    verifies: bool = True

    def prepare(self, corpus: Path) -> None:  # noqa: ARG002 - the same for each corpus
        """Run `restic init`."""
        self._run("init", cwd=self.folder)

    def backup(self, corpus: Path) -> Cost:
        """Run `restic backup`."""
        return self._run("backup", ".", cwd=corpus)

    def restore(self) -> Cost:
        """Run `restic restore --verify`."""
        target = str(self.folder / "back")
        return self._run("restore", "latest", "--verify", "--target", target, cwd=self.folder)

    def restored(self) -> Path:
        """Return the folder that it restores to."""
        return self.folder / "back"

    def _run(self, *arguments: str, cwd: Path) -> Cost:
        env = {
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": str(self.folder / "repository"),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
        }
        log = self.folder / f"{arguments[0]}.log"
        return run(["restic", "--quiet", *arguments], log, cwd=cwd, env=env)


@dataclass
class Borg:
    """borg 1, from the package index."""

    folder: Path
    program: Path
    name: str = "borg"
    does: str = "deduplicated, encrypted, no parity, no read-back; extract checks each chunk's MAC"
    verifies: bool = True

    def prepare(self, corpus: Path) -> None:  # noqa: ARG002 - the same for each corpus
        """Run `borg init`."""
        (self.folder / "back").mkdir()
        self._run("init", "-e", "repokey-blake2", "repository", cwd=self.folder)

    def backup(self, corpus: Path) -> Cost:
        """Run `borg create`."""
        archive = f"{self.folder / 'repository'}::all"
        return self._run("create", "-C", "zstd,1", archive, ".", cwd=corpus)

    def restore(self) -> Cost:
        """Run `borg extract`."""
        return self._run("extract", "../repository::all", cwd=self.restored())

    def restored(self) -> Path:
        """Return the folder that it extracts to."""
        return self.folder / "back"

    def _run(self, *arguments: str, cwd: Path) -> Cost:
        env = {"BORG_PASSPHRASE": "bench", "BORG_BASE_DIR": str(self.folder / "base")}
        log = self.folder / f"{arguments[0]}.log"
        return run([str(self.program), *arguments], log, cwd=cwd, env=env)


@dataclass
class Pipe:
    """A pipe of tar, zstd and age."""

    folder: Path
    name: str = "tar|zstd|age"
    does: str = "one encrypted stream, no index, no parity, no read-back; age checks MACs"
    verifies: bool = True

    def prepare(self, corpus: Path) -> None:  # noqa: ARG002 - the same for each corpus
        """Make a key."""
        (self.folder / "back").mkdir()
        subprocess.run(
            ["age-keygen", "-o", "key.txt"], cwd=self.folder, check=True, capture_output=True
        )

    def backup(self, corpus: Path) -> Cost:
        """Write one archive."""
        packed = (
            f"tar -C '{corpus}' -cf - . | zstd -q -1 | age -e -i key.txt -o archive && sync archive"
        )
        return self._shell(packed, "backup")

    def restore(self) -> Cost:
        """Unpack it."""
        return self._shell("age -d -i key.txt archive | zstd -q -d | tar -C back -xf -", "restore")

    def restored(self) -> Path:
        """Return the folder that it is unpacked to."""
        return self.folder / "back"

    def _shell(self, line: str, log: str) -> Cost:
        command = ["bash", "-c", f"set -o pipefail; {line}"]
        return run(command, self.folder / f"{log}.log", cwd=self.folder)


def install(folder: Path) -> Path:
    """Install the peers that are missing, and return borg's program.

    restic, age and zstd come from Debian; borg is built in an environment below ``folder``.
    """
    missing = [name for name in ("restic", "age", "zstd") if shutil.which(name) is None]
    borg = folder / "borg" / "bin" / "borg"
    if not borg.exists():
        missing += [*_BUILD, "gcc", "python3-dev"]
    if missing:
        _quietly(["apt-get", "install", "-y", *missing])
    if not borg.exists():
        _quietly([sys.executable, "-m", "venv", "--clear", str(folder / "borg")])
        _quietly([str(borg.with_name("pip")), "install", "borgbackup<2"])
    return borg


def versions(borg: Path) -> Mapping[str, str]:
    """Return what each peer says of its version."""
    commands = {
        "restic": ["restic", "version"],
        "borg": [str(borg), "--version"],
        "age": ["age", "--version"],
        "zstd": ["zstd", "--version"],
    }
    return {
        name: subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
        for name, line in commands.items()
    }


def _quietly(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
