"""Copy one tape file out of a SIMH .tap image: python simh_reader.py IMAGE.tap NUMBER > out.

Stands in for `mt fsf NUMBER; dd` on a drive. Knows nothing of Tapeflow.
"""

import struct
import sys
from pathlib import Path


def main(image: str, number: int) -> None:
    with Path(image).open("rb") as tape:
        while len(word := tape.read(4)) == 4:
            (length,) = struct.unpack("<I", word)
            if length == 0xFFFFFFFF or number < 0:
                break
            if length == 0:
                number -= 1
                continue
            record = tape.read(length + length % 2)[:length]
            if struct.unpack("<I", tape.read(4)) != (length,):
                sys.exit("the image is damaged")
            if number == 0:
                sys.stdout.buffer.write(record)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
