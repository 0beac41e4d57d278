"""Damage to tape images, drawn at random; each kind by its name in ``SPOILERS``."""

import random
import struct
from collections.abc import Callable, Sequence

from restore_lib.library.simh import FILEMARK

Spoiler = Callable[[random.Random, bytes], bytes]
END = b"\xff" * 4


def parts(image: bytes) -> list[bytes]:
    """Return the records and filemarks (empty) of a sound image."""
    found, at = [], 0
    while image[at : at + 4] not in {END, b""}:
        (length,) = struct.unpack_from("<I", image, at)
        found.append(image[at + 4 : at + 4 + length])
        at += 8 + length + length % 2 if length else 4
    return found


def joined(records: Sequence[bytes]) -> bytes:
    """Return the image of records and filemarks (empty)."""
    framed = []
    for record in records:
        word = struct.pack("<I", len(record))
        framed.append(word + record + bytes(len(record) % 2) + word if record else FILEMARK)
    return b"".join(framed) + END


def flip_bits(draw: random.Random, image: bytes) -> bytes:
    """Flip one to eight bits anywhere."""
    data = bytearray(image)
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def flip_a_beginning(draw: random.Random, image: bytes) -> bytes:
    """Flip a bit in the first kilobyte of a tape file, where headers and labels are."""
    records = parts(image)
    starts = [n for n, record in enumerate(records) if record and (n == 0 or not records[n - 1])]
    chosen = draw.choice(starts)
    data = bytearray(records[chosen])
    data[draw.randrange(min(1024, len(data)))] ^= 1 << draw.randrange(8)
    return joined([*records[:chosen], bytes(data), *records[chosen + 1 :]])


def flip_framing(draw: random.Random, image: bytes) -> bytes:
    """Flip a bit in the length before or behind a record, or in a filemark."""
    at, words = 0, []
    for record in parts(image):
        words.append(at)
        if record:
            at += 4 + len(record) + len(record) % 2
            words.append(at)
        at += 4
    data = bytearray(image)
    data[draw.choice(words) + draw.randrange(4)] ^= 1 << draw.randrange(8)
    return bytes(data)


def truncate(draw: random.Random, image: bytes) -> bytes:
    """Cut the image off anywhere."""
    return image[: draw.randrange(len(image))]


def zero_a_range(draw: random.Random, image: bytes) -> bytes:
    """Put zeros over one byte to a few blocks."""
    start = draw.randrange(len(image))
    end = min(len(image), start + draw.choice((1, 4, 100, 512, 3000, 20_000)))
    return image[:start] + bytes(end - start) + image[end:]


def swap_records(draw: random.Random, image: bytes) -> bytes:
    """Exchange two records."""
    records = parts(image)
    one, other = draw.choices([n for n, record in enumerate(records) if record], k=2)
    records[one], records[other] = records[other], records[one]
    return joined(records)


def double_a_filemark(draw: random.Random, image: bytes) -> bytes:
    """Write a filemark twice."""
    records = parts(image)
    records.insert(draw.choice([n for n, record in enumerate(records) if not record]), b"")
    return joined(records)


def stray_filemark(draw: random.Random, image: bytes) -> bytes:
    """Put a filemark between any two records."""
    records = parts(image)
    records.insert(draw.randint(0, len(records)), b"")
    return joined(records)


def drop_a_part(draw: random.Random, image: bytes) -> bytes:
    """Leave out a record or a filemark."""
    records = parts(image)
    del records[draw.randrange(len(records))]
    return joined(records)


def double_a_record(draw: random.Random, image: bytes) -> bytes:
    """Write a record twice."""
    records = parts(image)
    chosen = draw.choice([n for n, record in enumerate(records) if record])
    return joined([*records[: chosen + 1], *records[chosen:]])


def shorten_a_record(draw: random.Random, image: bytes) -> bytes:
    """Leave only the beginning of a record."""
    records = parts(image)
    chosen = draw.choice([n for n, record in enumerate(records) if len(record) > 1])
    records[chosen] = records[chosen][: draw.randrange(1, len(records[chosen]))]
    return joined(records)


def overwrite(draw: random.Random, image: bytes) -> bytes:
    """Put noise over a range."""
    start = draw.randrange(len(image))
    noise = draw.randbytes(draw.choice((1, 4, 100, 5000)))
    return image[:start] + noise + image[start + len(noise) :]


SPOILERS: dict[str, Spoiler] = {
    one.__name__: one
    for one in (
        flip_bits,
        flip_a_beginning,
        flip_framing,
        truncate,
        zero_a_range,
        swap_records,
        double_a_filemark,
        stray_filemark,
        drop_a_part,
        double_a_record,
        shorten_a_record,
        overwrite,
    )
}


def spoil(draw: random.Random, image: bytes) -> tuple[list[str], bytes]:
    """Damage ``image`` in one way, or in several; return the kinds of damage and the result."""
    kinds = [draw.choice(sorted(SPOILERS))]
    image = SPOILERS[kinds[0]](draw, image)
    while image and draw.random() < 0.3:  # once bytes are wrong, only bytes can be spoiled further
        kinds.append(draw.choice(["flip_bits", "overwrite", "truncate", "zero_a_range"]))
        image = SPOILERS[kinds[-1]](draw, image)
    return kinds, image
