"""A reader of Tapeflow's tapes, written from docs/tape-format.md alone.

    python independent_reader.py KEY OUT IMAGE.tap...

Restores every object version on the data volumes of some tape images: as OUT/000001, 000002, ...,
with what is known of each as one line of OUT/objects.jsonl. Parity is left unread. What is lacking
is printed, one line each, and the exit status is 1 then. Standard library, `age` and `zstd` only.
"""

import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]
Report = list[str]
NAMES = ("store", "key", "key_b64", "version", "modified_at", "parts", "object_size")


def tape_files(image: Path, lacking: Report) -> Iterator[bytes]:
    """Yield the tape files that a filemark ends; the rest is from a crash while writing."""
    data, at = image.read_bytes(), 0
    records: list[bytes] = []
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if length == 0xFFFFFFFF:
            break
        if length == 0:
            yield b"".join(records)
            records, at = [], at + 4
            continue
        end = at + 4 + length + length % 2
        if end + 4 > len(data):
            break
        if data[end : end + 4] != data[at : at + 4]:
            lacking.append(f"{image.name}: what lies behind byte {at} of the image")
            break
        records.append(data[at + 4 : at + 4 + length])
        at = end + 4


def members(tape_file: bytes) -> dict[str, bytes]:
    """Return the members of a tape file by name; those that are not as listed are left out."""
    with tarfile.open(fileobj=io.BytesIO(tape_file)) as archive:
        found = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]  # regular files only
    lines = found.pop("MANIFEST.sha256").decode().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    return {name: data for name, data in found.items() if digest_of(data) == listed.get(name)}


def digest_of(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def opened(stored: bytes, key: Path, *, packed: bool) -> bytes:
    """Decrypt, and unpack."""
    command = ["age", "-d", "-i", str(key)]
    data = subprocess.run(command, input=stored, capture_output=True, check=True).stdout
    if packed:
        data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    return data


class Reader:
    """Collects the parts of objects from any number of volumes."""

    def __init__(self, key: Path) -> None:
        self.key = key
        self.parts: dict[tuple[object, ...], dict[int, tuple[Line, bytes]]] = {}
        self.sets: dict[str, dict[int, str]] = {}
        self.data_volumes: dict[str, int] = {}
        self.lacking: Report = []

    def volume(self, image: Path) -> None:
        """Read one volume."""
        files = tape_files(image, self.lacking)
        try:
            label = json.loads(members(next(files))["VOLUME.json"])
        except (StopIteration, KeyError, tarfile.TarError):
            self.lacking.append(f"{image.name}: all of it; it has no label that can be read")
            return
        if label["format"] != 1:
            sys.exit(f"{image.name}: format {label['format']} is not known, only 1")
        self.sets.setdefault(label["tape_set"], {})[label["position"]] = label["barcode"]
        self.data_volumes[label["tape_set"]] = label["k"]
        if label["position"] < label["k"]:
            for number, tape_file in enumerate(files, start=1):
                self.segment(f"{label['barcode']}, tape file {number}", tape_file)

    def segment(self, where: str, tape_file: bytes) -> None:
        """Take in the payloads of one segment; a volume index has none."""
        try:
            found = members(tape_file)
            if "VOLUME-INDEX.json" in found:
                return
            index = opened(found["INDEX.jsonl.zst.age"], self.key, packed=True)
        except (KeyError, tarfile.TarError, subprocess.CalledProcessError):
            self.lacking.append(f"{where}: it has no index that can be read")
            return
        for line in map(json.loads, index.split(b"\n")[:-1]):
            stored = tape_file[line["offset"] : line["offset"] + line["stored_size"]]
            whole = None if "part" in line else line["sha256"]
            parts = self.parts.setdefault((*map(line.get, NAMES), whole), {})
            if digest_of(stored) == line["stored_sha256"]:
                data = opened(stored, self.key, packed=line["member"].endswith(".zst.age"))
                if (len(data), digest_of(data)) == (line["size"], line["sha256"]):
                    parts[line.get("part", 1)] = line, data

    def write(self, out: Path) -> None:
        """Write the objects that are whole, and note what is lacking of the others."""
        with (out / "objects.jsonl").open("w") as listing:
            for number, (names, parts) in enumerate(self.parts.items(), start=1):
                told: Line = dict(zip(NAMES, names, strict=False))
                wanted = range(1, (told["parts"] or 1) + 1)
                if missing := [part for part in wanted if part not in parts]:
                    self.lacking.append(f"parts {missing} of {json.dumps(told)}")
                    continue
                whole = b"".join(parts[part][1] for part in wanted)
                last = parts[wanted[-1]][0]
                if digest_of(whole) != last.get("object_sha256", last["sha256"]):
                    self.lacking.append(f"all of {json.dumps(told)}: its parts do not agree")
                    continue
                (out / f"{number:06}").write_bytes(whole)
                listing.write(json.dumps(last | {"file": f"{number:06}"}) + "\n")
        for name, held in self.sets.items():
            for position in sorted(set(range(self.data_volumes[name])) - set(held)):
                self.lacking.append(f"data volume {position} of tape set {name}: all of it")


def main(key: str, out: str, *images: str) -> int:
    """Restore from ``images``; return 1 when something is lacking, else 0."""
    reader = Reader(Path(key))
    for image in images:
        reader.volume(Path(image))
    reader.write(Path(out))
    for line in reader.lacking:
        print(line)  # noqa: T201  # its report
    return int(bool(reader.lacking))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
