"""Labels: tape file 0 of every volume."""

import io
import re
from dataclasses import dataclass
from datetime import datetime

from restore_lib.errors import CorruptTapeFile, ForeignTape, UnknownFormat
from restore_lib.tape import tar
from restore_lib.tape.fields import Fields, rfc3339, to_json
from restore_lib.tape.restore_txt import restore_text

FORMAT = 1
CODE = "isa_l_rs_cauchy"
VOLUME_JSON = "VOLUME.json"
RESTORE_TXT = "RESTORE.txt"
MAX_K = 28
MAX_M = 4
_BARCODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class Label:
    """What a volume says of itself.

    Position 0 … k-1 is a data volume, k … k+m-1 a parity volume of ``tape_set``. ``block_size`` is
    in bytes. ValueError for values that a volume can't have.
    """

    barcode: str
    cluster: str
    tape_set: str
    k: int
    m: int
    position: int
    block_size: int
    created_at: datetime
    recipients: tuple[str, ...]
    format: int = FORMAT
    code: str = CODE

    def __post_init__(self) -> None:
        if not _BARCODE.fullmatch(self.barcode):
            raise ValueError(f"{self.barcode!r} is not a barcode")
        check_geometry(self.k, self.m, self.block_size)
        if not 0 <= self.position < self.k + self.m:
            raise ValueError(f"there is no position {self.position} in a {self.k}+{self.m} set")
        if self.created_at.tzinfo is None:
            raise ValueError("created_at has no time zone")
        if self.format != FORMAT or self.code != CODE:
            raise ValueError(f"format {self.format} with code {self.code} can't be written")

    @property
    def is_parity(self) -> bool:
        """Whether this is a parity volume."""
        return self.position >= self.k


def check_geometry(k: int, m: int, block_size: int) -> None:
    """Raise ValueError for a tape set or a block size that the format does not have."""
    if not 1 <= k <= MAX_K or not 0 <= m <= MAX_M:
        raise ValueError(f"there is no tape set of {k}+{m}; k is 1 to {MAX_K}, m 0 to {MAX_M}")
    if block_size <= 0 or block_size % tar.RECORD:
        raise ValueError(f"block size {block_size} is not a multiple of {tar.RECORD}")


def encode_label(label: Label) -> bytes:
    """Return tape file 0 for ``label``, padded to whole blocks; RESTORE.txt is made for it."""
    volume = {
        "format": label.format,
        "barcode": label.barcode,
        "cluster": label.cluster,
        "tape_set": label.tape_set,
        "k": label.k,
        "m": label.m,
        "position": label.position,
        "block_size": label.block_size,
        "code": label.code,
        "created_at": rfc3339(label.created_at),
        "recipients": list(label.recipients),
    }
    text = restore_text(
        barcode=label.barcode,
        cluster=label.cluster,
        tape_set=label.tape_set,
        k=label.k,
        m=label.m,
        position=label.position,
        block_size=label.block_size,
        recipients=label.recipients,
    )
    members = {VOLUME_JSON: to_json(volume) + b"\n", RESTORE_TXT: text.encode()}
    listed = [tar.manifest_line(name, tar.sha256_of(data)) for name, data in members.items()]
    return tar.archive(members | {tar.MANIFEST: "".join(listed).encode()}, label.block_size)


def decode_label(data: bytes) -> Label:
    """Parse the whole of tape file 0.

    Raises ForeignTape when it is no label of Tapeflow's, UnknownFormat for another version of the
    format, and CorruptTapeFile when it begins as a label but is damaged or cut short.
    """
    found = tar.entries(io.BytesIO(data))
    try:
        first = next(found, None)
    except CorruptTapeFile as error:
        raise ForeignTape("The tape does not begin with a label of Tapeflow's.") from error
    if first is None or first.name != VOLUME_JSON:
        raise ForeignTape("The tape begins with an archive that is no label of Tapeflow's.")
    members = {VOLUME_JSON: first.read()}
    volume = Fields.parse(members[VOLUME_JSON], VOLUME_JSON)
    version = volume.integer("format")
    if version != FORMAT:
        raise UnknownFormat(f"The tape is written in format {version}; this code reads {FORMAT}.")
    members |= {entry.name: entry.read() for entry in found}
    for name in (RESTORE_TXT, tar.MANIFEST):
        if name not in members:
            raise CorruptTapeFile(f"The label has no {name}.")
    listed = tar.parse_manifest(members.pop(tar.MANIFEST))
    if listed != {name: tar.sha256_of(data) for name, data in members.items()}:
        raise CorruptTapeFile(f"The label is not what its {tar.MANIFEST} says.")
    label = _label(volume)
    if len(data) % label.block_size:
        raise CorruptTapeFile(f"The label of {label.barcode} is not a whole number of blocks.")
    return label


def _label(volume: Fields) -> Label:
    try:
        return Label(
            barcode=volume.text("barcode"),
            cluster=volume.text("cluster"),
            tape_set=volume.text("tape_set"),
            k=volume.integer("k"),
            m=volume.integer("m"),
            position=volume.integer("position"),
            block_size=volume.integer("block_size"),
            created_at=volume.moment("created_at"),
            recipients=volume.texts("recipients"),
            code=volume.text("code"),
        )
    except ValueError as error:
        raise CorruptTapeFile(f"{VOLUME_JSON}: {error}.") from error
