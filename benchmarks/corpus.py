"""The corpus: incompressible files, small text files and one large file, the same on each run."""

import bisect
import itertools
import json
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

_CHUNK = 1 << 20
_SYLLABLES = 3
_VOCABULARY = 20_000


@dataclass(frozen=True)
class Shape:
    """How many files of each kind there are, and the size in bytes of the large one."""

    binaries: int
    texts: int
    large: int

    @classmethod
    def scaled(cls, scale: float) -> "Shape":
        """Return the full corpus, or a part of it that has the same proportions."""
        return cls(
            max(1, int(300 * scale)), max(1, int(20_000 * scale)), max(1, int(scale * 2 * 10**9))
        )


@dataclass(frozen=True)
class Corpus:
    """A folder of files, with their number and their size in bytes."""

    folder: Path
    files: int
    size: int


def make_corpus(folder: Path, shape: Shape) -> Corpus:
    """Return the corpus of ``shape`` below ``folder``, made when it is not there yet."""
    root = folder / f"corpus-{shape.binaries}-{shape.texts}-{shape.large}"
    done = root.with_suffix(".json")
    if not done.exists():
        shutil.rmtree(root, ignore_errors=True)
        _binaries(root / "binary", shape.binaries)
        _texts(root / "text", shape.texts)
        (root / "large").mkdir()
        _incompressible(root / "large" / "image.bin", shape.large, random.Random(3))
        files = [path for path in root.rglob("*") if path.is_file()]
        made = {"files": len(files), "size": sum(path.stat().st_size for path in files)}
        done.write_text(json.dumps(asdict(shape) | made))
    found = json.loads(done.read_text())
    return Corpus(root, found["files"], found["size"])


def _binaries(folder: Path, count: int) -> None:
    chance = random.Random(1)
    folder.mkdir(parents=True)
    for number in range(count):
        size = chance.randrange(3_000_000, 4_000_000)
        _incompressible(folder / f"photo-{number:05}.bin", size, chance)


def _incompressible(path: Path, size: int, chance: random.Random) -> None:
    with path.open("wb") as file:
        for start in range(0, size, _CHUNK):
            file.write(chance.randbytes(min(_CHUNK, size - start)))


def _texts(folder: Path, count: int) -> None:
    """Write files of 2 to 20 KB of words whose frequencies fall as those of a language do."""
    chance = random.Random(2)
    words = _words(chance)
    frequency = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    for number in range(count):
        size = chance.randrange(2_000, 20_000)
        parts: list[str] = []
        while size > 0:
            word = words[bisect.bisect(frequency, chance.random() * frequency[-1])]
            parts.append(word)
            size -= len(word) + 1
        path = folder / f"{number // 1000:03}" / f"report-{number:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(parts) + "\n")


def _words(chance: random.Random) -> list[str]:
    syllables = [first + second for first in "bcdfghklmnprstvw" for second in "aeiou"]
    made = {
        "".join(chance.choices(syllables, k=chance.randint(1, _SYLLABLES)))
        for _ in range(3 * _VOCABULARY)
    }
    return sorted(made)[:_VOCABULARY]
