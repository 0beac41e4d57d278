"""Real files for the demonstration: copied in, listed by ``sha256sum``, and run away with."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

LIST = "before.sha256"


def copy_files(source: Path, target: Path) -> tuple[int, int]:
    """Copy all regular files below ``source``, names byte for byte; return count and bytes.

    Links and special files are passed over, and so is what can't be read, and what Python keeps of
    its programs in ``__pycache__``.
    """
    count = size = 0
    root, into = os.fsencode(source), os.fsencode(target)
    for path in regular_files(root):
        if b"/__pycache__/" in path:
            continue
        copy = os.path.join(into, os.path.relpath(path, root))  # noqa: PTH118 - names are bytes
        os.makedirs(os.path.dirname(copy), exist_ok=True)  # noqa: PTH103, PTH120 - names are bytes
        try:
            shutil.copy2(path, copy)
        except PermissionError:
            continue
        count += 1
        size += os.stat(copy).st_size  # noqa: PTH116 - names are bytes
    return count, size


def regular_files(root: bytes) -> Iterator[bytes]:
    """Yield the paths of all regular files below ``root``, in order of their names."""
    with os.scandir(root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from regular_files(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield entry.path


def write_digests(folder: Path, out: Path) -> int:
    """List the SHA-256 of every file in ``folder`` by the ``sha256sum`` program; return how many.

    The list is checked by ``cd FOLDER && sha256sum --check LIST``.
    """
    names = [os.path.relpath(path, os.fsencode(folder)) for path in regular_files(_raw(folder))]
    with out.open("wb") as listed:
        subprocess.run(
            ["xargs", "-0", "-r", "sha256sum", "--"],
            input=b"".join(name + b"\0" for name in names),
            cwd=folder,
            stdout=listed,
            check=True,
        )
    return len(names)


def differences(folder: Path, listed: Path) -> list[str]:
    """Return what ``sha256sum --check`` says of every file that does not agree with the list."""
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", str(listed.resolve())],
        cwd=folder,
        capture_output=True,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    text = checked.stdout + checked.stderr
    return [line.decode(errors="backslashreplace") for line in text.splitlines()]


def add_newcomers(folder: Path, count: int, randomness: random.Random) -> int:
    """Write ``count`` new files that no backup has seen."""
    incoming = folder / "incoming"
    incoming.mkdir(exist_ok=True)
    for number in range(count):
        body = randomness.randbytes(randomness.randrange(1, 4096))
        (incoming / f"upload-{number:04d}.bin").write_bytes(body)
    return count


def run_away(folder: Path, fraction: float, randomness: random.Random) -> int:
    """Delete ``fraction`` of all files, as a deletion pipeline gone wrong; return how many.

    The largest file is always among them.
    """
    paths = list(regular_files(_raw(folder)))
    largest = max(paths, key=os.path.getsize)
    count = max(1, int(len(paths) * fraction))
    others = [path for path in paths if path != largest]
    for path in [largest, *randomness.sample(others, count - 1)]:
        os.unlink(path)  # noqa: PTH108 - names are bytes
    return count


def _raw(folder: Path) -> bytes:
    return os.fsencode(folder)
