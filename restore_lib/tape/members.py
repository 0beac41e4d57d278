"""Members of a segment: what is known of each object or part, and its line in the index."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii

from restore_lib.errors import CorruptTapeFile
from restore_lib.tape.fields import Fields, rfc3339, to_json

INDEX = "INDEX.jsonl.zst.age"
MAX_ORDINAL = 99_999_999
MAX_PART_SIZE = 7 << 30


@dataclass(frozen=True, slots=True)
class MemberMeta:
    """What the source says of an object, and which part of it a member holds.

    An object that is not cut has no ``part``, ``parts``, ``object_size`` or ``object_sha256``. Of
    one that is cut, every member has ``part`` (from 1), ``parts`` and ``object_size`` (bytes of the
    whole object), and the last part alone ``object_sha256`` (hex, of the whole plaintext).
    ``etag`` is the store's change token; tapes of the first days have none.
    """

    store: str
    key: bytes
    version: str | None
    modified_at: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    part: int | None = None
    parts: int | None = None
    object_size: int | None = None
    object_sha256: str | None = None
    etag: str | None = None

    def __post_init__(self) -> None:
        if self.modified_at.tzinfo is None:
            raise ValueError("modified_at has no time zone")
        if self.part is None:
            if (self.parts, self.object_size, self.object_sha256) != (None, None, None):
                raise ValueError("parts, object_size and object_sha256 go with part")
        elif self.parts is None or self.object_size is None:
            raise ValueError("a part goes with parts and object_size")
        elif not 1 <= self.part <= self.parts:
            raise ValueError(f"part {self.part} is not one of {self.parts}")
        elif (self.object_sha256 is not None) != (self.part == self.parts):
            raise ValueError("the last part, and no other, has object_sha256")


@dataclass(frozen=True, slots=True)
class Member:
    """One payload in a segment.

    ``size`` (bytes) and ``sha256`` (hex) are of the plaintext of this object or part;
    ``stored_size`` and ``stored_sha256`` of its payload as stored; ``offset`` is the payload's
    distance in bytes from the start of the tape file.
    """

    ordinal: int
    compressed: bool
    size: int
    sha256: str
    stored_size: int
    stored_sha256: str
    offset: int
    meta: MemberMeta

    @property
    def name(self) -> str:
        """Name of the member in the segment's archive."""
        return member_name(self.ordinal, compressed=self.compressed)


def member_name(ordinal: int, *, compressed: bool) -> str:
    """Return the name in the archive of payload number ``ordinal``."""
    return f"objects/{ordinal:08d}{'.zst' if compressed else ''}.age"


def encode_line(member: Member) -> bytes:
    """Return the member's line in the index, with its line end."""
    meta = member.meta
    line: dict[str, object] = {
        "ordinal": member.ordinal,
        "member": member.name,
        "store": meta.store,
    }
    try:
        line["key"] = meta.key.decode()
    except UnicodeDecodeError:
        line["key_b64"] = base64.b64encode(meta.key).decode()
    line |= {
        "version": meta.version,
        "size": member.size,
        "sha256": member.sha256,
        "stored_size": member.stored_size,
        "stored_sha256": member.stored_sha256,
        "offset": member.offset,
        "modified_at": rfc3339(meta.modified_at),
        "content_type": meta.content_type,
        "metadata": dict(meta.metadata),
    }
    if meta.etag is not None:
        line["etag"] = meta.etag
    if meta.part is not None:
        line |= {"part": meta.part, "parts": meta.parts, "object_size": meta.object_size}
        if meta.object_sha256 is not None:
            line["object_sha256"] = meta.object_sha256
    return to_json(line) + b"\n"


def line_bound(meta: MemberMeta) -> int:
    """Return a bound of the bytes in the index line of any member with this ``meta``."""
    texts = [meta.store, meta.version, meta.content_type, meta.etag]
    for name, value in meta.metadata.items():
        texts += [name, value]
    try:
        texts.append(meta.key.decode())
        size = 0
    except UnicodeDecodeError:
        size = 4 * (len(meta.key) // 3 + 1)
    size += sum(map(len, map(encode_basestring_ascii, filter(None, texts))))
    return size + 2 * len(meta.metadata) + (_FRAME if meta.part is None else _CUT_FRAME)


def decode_line(text: bytes, where: str) -> Member:
    """Parse one line of an index; CorruptTapeFile names ``where`` and the field at fault."""
    fields = Fields.parse(text, where)
    ordinal = fields.integer("ordinal")
    compressed = fields.text("member").endswith(".zst.age")
    if fields.text("member") != member_name(ordinal, compressed=compressed):
        raise fields.bad("member", f"the name of member {ordinal}")
    return Member(
        ordinal=ordinal,
        compressed=compressed,
        size=fields.integer("size"),
        sha256=fields.digest("sha256"),
        stored_size=fields.integer("stored_size"),
        stored_sha256=fields.digest("stored_sha256"),
        offset=fields.integer("offset"),
        meta=_decode_meta(fields, where),
    )


def decode_lines(lines: Iterable[bytes], where: str) -> list[Member]:
    """Parse a whole index; CorruptTapeFile also for an ordinal that comes twice or a cut end."""
    members: list[Member] = []
    seen: set[int] = set()
    for number, line in enumerate(lines, start=1):
        at = f"{where}, line {number}"
        if not line.endswith(b"\n"):
            raise CorruptTapeFile(f"{at} is cut short.")
        member = decode_line(line, at)
        if member.ordinal in seen:
            raise CorruptTapeFile(f"{at}: ordinal {member.ordinal} comes twice.")
        seen.add(member.ordinal)
        members.append(member)
    return members


_BARE = MemberMeta("", b"\xff", None, datetime.max.replace(tzinfo=UTC), etag="")
_CUT = replace(_BARE, part=1 << 63, parts=1 << 63, object_size=1 << 63, object_sha256="0" * 64)
_FRAME, _CUT_FRAME = (
    len(encode_line(Member(MAX_ORDINAL, True, 1 << 63, "0" * 64, 1 << 63, "0" * 64, 1 << 63, meta)))
    for meta in (_BARE, _CUT)
)


def _decode_meta(fields: Fields, where: str) -> MemberMeta:
    cut = "part" in fields
    try:
        return MemberMeta(
            store=fields.text("store"),
            key=_decode_key(fields),
            version=fields.text_or_none("version"),
            modified_at=fields.moment("modified_at"),
            content_type=fields.text_or_none("content_type"),
            metadata=fields.mapping("metadata"),
            part=fields.integer("part", least=1) if cut else None,
            parts=fields.integer("parts", least=1) if cut else None,
            object_size=fields.integer("object_size") if cut else None,
            object_sha256=fields.digest("object_sha256") if "object_sha256" in fields else None,
            etag=fields.text("etag") if "etag" in fields else None,
        )
    except ValueError as error:
        raise CorruptTapeFile(f"{where}: {error}.") from error


def _decode_key(fields: Fields) -> bytes:
    if ("key" in fields) == ("key_b64" in fields):
        raise fields.bad("key", "the one and only name beside 'key_b64'")
    if "key" in fields:
        return fields.text("key").encode()
    try:
        return base64.b64decode(fields.text("key_b64"), validate=True)
    except (binascii.Error, ValueError):
        raise fields.bad("key_b64", "base64") from None
