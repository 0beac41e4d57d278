"""RESTORE.txt: how to get objects back by hand, for a person who has the tapes and a key."""

import textwrap
from pathlib import Path

_DATA = """\
HOW TO GET FILES BACK FROM THIS TAPE BY HAND
============================================

This is volume {barcode}, data volume {ordinal} of {k} in tape set {tape_set} ({k} data and
{m} parity volumes) of {cluster}. You need no special software and no database: a Linux machine
with a tape drive, the programs mt (package mt-st), dd, tar, sha256sum, age and zstd, and ONE of
the secret keys (a text file with a line AGE-SECRET-KEY-1...) that belong to

{recipients}

Nothing below writes to the tape. Slide its write-protect tab to be sure.

The tape holds tape file 0 (this text), then 1, 2, 3 ... with the files. In an empty folder with
room for one of these (some gigabytes), with the key there as key.txt, and the drive as
/dev/nst0 (with the n: it must not rewind by itself), type for tape file 1:

  1.  mt -f /dev/nst0 rewind
  2.  mt -f /dev/nst0 setblk 0
  3.  mt -f /dev/nst0 fsf 1
  4.  dd if=/dev/nst0 of=segment.tar bs={block_size}
  5.  tar -xf segment.tar
  6.  sha256sum -c --quiet MANIFEST.sha256
  7.  age -d -i key.txt INDEX.jsonl.zst.age | zstd -dc > index.jsonl
  8.  grep -F 'part/of/the/name' index.jsonl
  9.  age -d -i key.txt objects/00000000.zst.age | zstd -dc > restored
  10. sha256sum restored

What they do: 1-4 copy the tape file to disk, 5 unpacks it, 6 prints nothing if the tape is sound,
7 makes the list of contents, 8 finds your file in it. In the line that it prints, "member" is the
name to put into step 9, "key" is the file's own name, and "sha256" is what step 10 must print.
If "member" ends in .age without .zst before it, step 9 is instead:

      age -d -i key.txt objects/00000000.age > restored

The next tape file: the head is right behind the last one now, so go on with step 4. Or begin at
step 1 with another number in step 3. When dd copies 0 bytes, the tape has ended. Use a fresh
folder for each tape file, since the names in it begin anew.

Which tape file has my file? If the tape was closed, its last tape file lists all others:

      mt -f /dev/nst0 eod
      mt -f /dev/nst0 bsfm 2
      dd if=/dev/nst0 of=contents.tar bs={block_size}
      tar -xf contents.tar

and then step 7 on each segments/NNNNNNNN/INDEX.jsonl.zst.age, where NNNNNNNN is the tape file.

The line has "key_b64" instead of "key": the name is not UTF-8. It is the name in base64
(base64 -d shows it).

The line has "part" and "parts": a very large file was cut. Restore each part by itself, from
whatever tape file or volume of the set it is on, then join them in order:

      cat part1 part2 part3 > whole
      sha256sum whole        (compare with "object_sha256" in the last part's line)

The tape is damaged, or step 6 complains: {damaged}
"""

_DAMAGED = """\
what is unreadable here can be computed from any {k} other
volumes of tape set {tape_set} (positions 0 ... {last}; this one is position {position}). The
RESTORE.txt on a parity volume (position {k} or above) says how and has the program for it."""

_UNPROTECTED = """\
tape set {tape_set} has no parity volumes. Every member of which
step 6 does not complain is whole; try another drive for the rest."""

_PARITY = """\
THIS TAPE HOLDS PARITY, NOT FILES
=================================

This is volume {barcode}, position {position} of tape set {tape_set} ({k} data and {m} parity
volumes) of {cluster}. Take the data volumes of the set (positions 0 ... {last_data}) first: each
begins with its own RESTORE.txt, which needs no parity. You need this tape only if one of them is
lost or damaged: any {k} volumes of the set give back all the others.

Its last tape file names every volume of the set, with lengths and SHA-256 of their tape files.
With the drive as /dev/nst0 (with the n), and mt from package mt-st:

  1.  mt -f /dev/nst0 setblk 0
  2.  mt -f /dev/nst0 eod
  3.  mt -f /dev/nst0 bsfm 2
  4.  dd if=/dev/nst0 of=stripes.tar bs={block_size}
  5.  tar -xf stripes.tar
  6.  python3 -m json.tool STRIPES.json

(If that gives no STRIPES.json, the tape was never closed; go on without lengths and digests.)
To rebuild tape file N of a lost volume, read the SAME tape file N from any {k} other volumes of
the set, this one or others. On each of them:

  7.  mt -f /dev/nst0 rewind; mt -f /dev/nst0 setblk 0; mt -f /dev/nst0 fsf N
  8.  dd if=/dev/nst0 of=POSITION.bin bs={block_size}

POSITION is that volume's own position; where a volume has no tape file N, take an empty file.
Then save the program at the end of this text as rebuild.py and run it, with the lost volume's
position as WANTED; for instance with {k} files:

  9.  python3 rebuild.py {k} WANTED {example} > segment.tar
  10. truncate -s LENGTH segment.tar; sha256sum segment.tar

LENGTH is the lost tape file's "blocks" in STRIPES.json times {block_size}; its "sha256" is what
step 10 must print. Go on with step 5 of RESTORE.txt on any data volume of the set.

The code: tape file N of position {k}+i is, byte by byte in GF(2^8) with polynomial 0x11d, the sum
over the data positions j of inverse(({k}+i) XOR j) times the byte at the same place in tape file
N of position j; a shorter tape file counts as zeros behind its end.

The secret keys needed afterwards are those of

{recipients}

-------------------------------- rebuild.py: all lines below --------------------------------
{program}"""


def restore_text(
    *,
    barcode: str,
    cluster: str,
    tape_set: str,
    k: int,
    m: int,
    position: int,
    block_size: int,
    recipients: tuple[str, ...],
) -> str:
    """Return the text for one volume: how to read it, or, for parity, how to rebuild with it."""
    values: dict[str, object] = {
        "barcode": barcode,
        "cluster": cluster,
        "tape_set": tape_set,
        "k": k,
        "m": m,
        "position": position,
        "ordinal": position + 1,
        "last": k + m - 1,
        "last_data": k - 1,
        "block_size": block_size,
        "recipients": textwrap.indent("\n".join(recipients), "    "),
    }
    if position < k:
        damaged = (_DAMAGED if m else _UNPROTECTED).format(**values)
        return _DATA.format(damaged=damaged, **values)
    present = [*range(1, k), position]
    example = " ".join(f"{number}={number}.bin" for number in present)
    return _PARITY.format(example=example, program=_program(), **values)


def _program() -> str:
    return Path(__file__).with_name("rebuild_by_hand.py").read_text("utf-8")
