"""Makes tests/golden: tape images of format version 1 that every later version has to read.

Run by scripts/make-golden, once a version of the format; the images are kept, not made anew.
"""

import base64
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from restore_lib.tape.age import Recipients, new_identity
from restore_lib.tape.label import FORMAT
from tests.support.tape_sets import Shape, Source, TapeSet, source, write_set

ROOT = Path(__file__).parents[1] / "golden"
SETS = {"2+1": Shape(2, 1, 2048, stripes=2, cut=2500), "4+2": Shape(4, 2, 512, stripes=2, cut=1500)}
OPEN = {"2+1": [1], "4+2": [0, 5]}
HOSTILE = [
    b"../../etc/passwd",
    b"/absolute//twice/",
    b"line\nfeed\tand \x00 nul",
    b"-rf $(reboot) `id` 'x' \"y\"",
    b"\xff\xfe not UTF-8 \x80",
    "K\u00f6ln/\u65e5\u672c/\U0001f4fc".encode(),
    b"\xe2\x80\xae right to left",
    b"n" * 300,
    b" ",
]


def sources() -> Iterator[Source]:
    """Yield the objects of a golden set; their bytes are always the same."""
    draw = random.Random(1)
    for number, key in enumerate(HOSTILE):
        yield source(key, b"hostile name %d\n" % number)
    yield source(b"empty", b"")
    yield source(b"text", b"the quick brown fox\n" * 60, content_type="text/plain", etag='"9b2c"')
    yield source(b"noise", draw.randbytes(300))
    yield source(b"cut/noise", draw.randbytes(3_200), metadata={"owner": "J\u00f8rn", "\u00e9": ""})
    yield source(b"cut/zeros", bytes(3_100), version="3/L4kqtJ")
    yield source(b"cut/\xff", draw.randbytes(2_600))
    for year in (1969, 2029):
        at = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        yield source(b"two versions", b"of %d" % year, modified_at=at)


def expected(made: TapeSet) -> Iterator[dict[str, object]]:
    """Yield what is true of each object, in plain JSON."""
    for one in made.sources:
        meta = one.meta
        yield {
            "store": meta.store,
            "key_b64": base64.b64encode(meta.key).decode(),
            "version": meta.version,
            "modified_at": meta.modified_at.isoformat(),
            "content_type": meta.content_type,
            "etag": meta.etag,
            "metadata": dict(meta.metadata),
            "size": len(one.data),
            "sha256": hashlib.sha256(one.data).hexdigest(),
        }


def make(root: Path) -> None:
    """Write both sets, their keys and what is in them below ``root``/format-N."""
    for name, shape in SETS.items():
        folder = root / f"format-{FORMAT}" / name
        folder.mkdir(parents=True)
        identity, recipient = new_identity()
        (folder / "key.txt").write_text("# for these test images only\n" + identity)
        with tempfile.TemporaryDirectory() as staging:
            made = write_set(
                Path(staging),
                shape,
                list(sources()),
                Recipients.parse([recipient]),
                open_positions=OPEN[name],
            )
        for barcode, image in made.images().items():
            (folder / f"{barcode}.tap").write_bytes(image)
        _tear(folder / f"{made.labels[OPEN[name][0]].barcode}.tap", shape.block_size)
        lines = [json.dumps(line) + "\n" for line in expected(made)]
        (folder / "objects.jsonl").write_text("".join(lines))
        (folder / "set.json").write_text(
            json.dumps(asdict(shape) | {"open_positions": OPEN[name]}) + "\n"
        )


def _tear(image: Path, block_size: int) -> None:
    """Leave what a crash leaves on a volume that was being written: one block and a half."""
    word = block_size.to_bytes(4, "little")
    data = image.read_bytes()[:-4]
    image.write_bytes(data + word + bytes(block_size) + word + word + bytes(block_size // 2))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
