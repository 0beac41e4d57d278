"""The papers that go with volumes, as JSON between programs and as text for people.

Each has ``kind`` and ``format``; a document of another format, with an unknown key or with a value
of the wrong kind is refused whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from restore_lib.errors import Refused, UnknownFormat
from restore_lib.model.volume import Custody, Flag, Health, Reason, Volume

FORMAT = 1


def _unique(barcodes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(barcodes)) != len(barcodes):
        msg = "a barcode is listed twice"
        raise ValueError(msg)
    return barcodes


Barcode = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9-]{0,31}$")]
Barcodes = Annotated[tuple[Barcode, ...], AfterValidator(_unique)]
Number = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paper:
    """What all papers of a shipment say: whose volumes they are, which shipment, which vault."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)
    title: ClassVar[str]

    format: Literal[1] = 1
    cluster: Name
    shipment: Number
    vault: Name
    issued_at: AwareDatetime

    @property
    def name(self) -> str:
        """The name of the document's file: the same document always has the same."""
        return f"{self.title.replace(' ', '-')}-{self.shipment:08}.json"

    def json(self) -> bytes:
        """Return the form that ``parse`` reads."""
        return _ADAPTER.dump_json(cast("Document", self), indent=1) + b"\n"

    def _page(self, detail: str, lines: Iterable[str]) -> str:
        head = [
            f"{self.title.upper()}   shipment {self.shipment}   vault {self.vault}",
            f"cluster {self.cluster}, issued {self.issued_at:%Y-%m-%d %H:%M %Z}",
            detail,
        ]
        return _page(head, sorted(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class _VolumesPaper(_Paper):
    """A paper that lists volumes."""

    volumes: Barcodes

    def text(self) -> str:
        """Return the document as a person reads it."""
        return self._page(self._detail(), self.volumes)

    def _detail(self) -> str:
        return f"volumes: {len(self.volumes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PickList(_VolumesPaper):
    """Volumes that the vault is asked to send back, why, and by when."""

    title: ClassVar[str] = "pick list"

    kind: Literal["pick_list"] = "pick_list"
    reason: Reason
    round: Annotated[int, Field(ge=0)]
    due_at: AwareDatetime

    def _detail(self) -> str:
        return (
            f"request {self.round + 1}, reason {self.reason}, "
            f"due {self.due_at:%Y-%m-%d %H:%M %Z}, volumes: {len(self.volumes)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement(_VolumesPaper):
    """Volumes of a pick list that the vault says it will send."""

    title: ClassVar[str] = "acknowledgement"

    kind: Literal["acknowledgement"] = "acknowledgement"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryNote(_VolumesPaper):
    """Volumes that the truck says it has brought to the dock."""

    title: ClassVar[str] = "delivery note"

    kind: Literal["delivery_note"] = "delivery_note"


@dataclass(frozen=True, slots=True, kw_only=True)
class PickupReceipt(_VolumesPaper):
    """Volumes that the truck took from the dock, under the seal that it found."""

    title: ClassVar[str] = "pickup receipt"

    kind: Literal["pickup_receipt"] = "pickup_receipt"
    seal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultReceipt(_VolumesPaper):
    """Volumes that the vault has received, under the seal that it found."""

    title: ClassVar[str] = "vault receipt"

    kind: Literal["vault_receipt"] = "vault_receipt"
    seal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBox:
    """One box of a shipment."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    number: Number
    volumes: Barcodes


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingList(_Paper):
    """Volumes that are on the dock for the vault, box by box, under one seal."""

    title: ClassVar[str] = "packing list"

    kind: Literal["packing_list"] = "packing_list"
    seal: str
    boxes: tuple[PackedBox, ...]

    @property
    def volumes(self) -> tuple[str, ...]:
        """The volumes in all boxes."""
        return tuple(barcode for box in self.boxes for barcode in box.volumes)

    def text(self) -> str:
        """Return a page for each box, to be put into it."""
        return "\f".join(
            self._page(
                f"seal {self.seal}, box {box.number} of {len(self.boxes)}, "
                f"volumes: {len(box.volumes)}",
                box.volumes,
            )
            for box in self.boxes
        )


Document = PickList | Acknowledgement | DeliveryNote | PickupReceipt | VaultReceipt | PackingList
_ADAPTER: TypeAdapter[Document] = TypeAdapter(Annotated[Document, Field(discriminator="kind")])


def parse(name: str, text: bytes) -> Document:
    """Read a document; ``name`` is for messages.

    Raises Refused when it is not one, says something that it can't, or has an unknown key, and
    UnknownFormat when it is of another format.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    if where == "format":
        raise UnknownFormat(
            f"The document {name} is of format {first['input']!r}; this code knows {FORMAT}.",
            remedy="have the sender write the older format, or install a newer tapeflow",
        )
    raise Refused(
        f"The document {name} can't be read: {where or 'the whole'}: {first['msg']}.",
        remedy="have the sender correct it and send it again",
    )


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """Where one volume is and how it is."""

    barcode: str
    tape_set: str | None
    custody: Custody
    place: str
    health: Health
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Where every volume is: the list to keep on paper too."""

    cluster: str
    at: datetime
    entries: tuple[InventoryEntry, ...]

    @classmethod
    def of(cls, cluster: str, at: datetime, volumes: Iterable[Volume]) -> Self:
        """List ``volumes`` by place and barcode."""
        entries = [
            InventoryEntry(
                v.barcode, v.tape_set, v.custody, v.place, v.health, tuple(sorted(v.flags))
            )
            for v in volumes
        ]
        return cls(cluster, at, tuple(sorted(entries, key=lambda e: (e.place, e.barcode))))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        plain: dict[str, Any] = TypeAdapter(Inventory).dump_python(self, mode="json")
        return plain

    def text(self) -> str:
        """Return it as a person reads it, a line for each volume."""
        head = f"VAULT INVENTORY   cluster {self.cluster}   {self.at:%Y-%m-%d %H:%M %Z}"
        lines = [
            f"{e.barcode:<12} {e.place:<24} {e.custody:<16} {e.health:<10} "
            f"{e.tape_set or '-'} {' '.join(e.flags)}".rstrip()
            for e in self.entries
        ]
        return _page([head, f"volumes: {len(lines)}"], lines)


def _page(head: Iterable[str], lines: Iterable[str]) -> str:
    return "\n".join([*head, "", *(f"  {line}" for line in lines)]) + "\n"
