import json
import re
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest

from restore_lib.errors import Refused, UnknownFormat
from restore_lib.model.shipment import LineState, ShipmentState
from restore_lib.model.volume import Content, Custody, Flag, Health, Reason, Volume
from restore_lib.vault.documents import (
    Acknowledgement,
    DeliveryNote,
    Document,
    Inventory,
    PackedBox,
    PackingList,
    PickList,
    PickupReceipt,
    VaultReceipt,
    parse,
)

DESK = (Path(__file__).parents[2] / "docs" / "vault-desk.md").read_text("utf-8")
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HEAD: dict[str, Any] = {"cluster": "test", "shipment": 7, "vault": "north", "issued_at": NOW}
NAMES = ("V00002", "V00001")
ALL: list[Document] = [
    PickList(**HEAD, volumes=NAMES, reason=Reason.RESTORE, round=1, due_at=NOW),
    Acknowledgement(**HEAD, volumes=NAMES),
    DeliveryNote(**HEAD, volumes=()),
    PickupReceipt(**HEAD, volumes=NAMES, seal="TF-7"),
    VaultReceipt(**HEAD, volumes=NAMES, seal="TF-7"),
    PackingList(
        **HEAD,
        seal="TF-7",
        boxes=(PackedBox(number=1, volumes=NAMES), PackedBox(number=2, volumes=("V00003",))),
    ),
]


@pytest.mark.parametrize("document", ALL, ids=lambda d: d.kind)
def test_a_document_survives_json(document: Document) -> None:
    assert parse(document.name, document.json()) == document


def test_names_tell_kind_and_shipment_and_sort_in_the_order_of_events() -> None:
    names = [document.name for document in ALL]
    assert names[0] == "pick-list-00000007.json"
    assert len(set(names)) == len(names)
    assert names[1] < names[2]
    assert names[3] < names[4]


@pytest.mark.parametrize("document", ALL, ids=lambda d: d.kind)
def test_the_text_form_names_kind_shipment_vault_and_volumes(document: Document) -> None:
    text = document.text()
    assert text.startswith(f"{document.title.upper()}   shipment 7   vault north\n")
    assert all(f"\n  {barcode}\n" in text for barcode in document.volumes)


def test_the_packing_list_has_a_page_for_each_box() -> None:
    first, second = ALL[-1].text().split("\f")
    assert "seal TF-7, box 1 of 2, volumes: 2\n\n  V00001\n  V00002\n" in first
    assert "box 2 of 2, volumes: 1\n\n  V00003\n" in second
    assert "V00003" not in first


def test_the_desk_guide_has_an_example_of_each_document() -> None:
    examples = re.findall(r"`([\w-]+\.json)`:\n\n +```json\n(.*?)```", DESK, re.DOTALL)
    kinds = set()
    for name, text in examples:
        document = parse(name, text.encode())
        assert document.name == name
        kinds.add(type(document))
        keys = {field.name for field in fields(document)}
        assert json.loads(text).keys() == keys
        assert shared() - keys <= {"volumes"}
    assert kinds == set(get_args(Document))


def shared() -> set[str]:
    """Return the keys that the guide says all documents have."""
    return {cell.strip("`") for cell in cells("## What all documents say")}


def cells(heading: str) -> list[str]:
    """Return the first column of the table that comes next behind a line of the guide."""
    _, _, rest = DESK.partition(f"{heading}\n")
    table = rest[rest.index("|---|") :].partition("\n\n")[0]
    return re.findall(r"^\| (.*?) \|", table, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "states"),
    [("Of a shipment:", ShipmentState), ("Of each volume in it:", LineState)],
)
def test_the_desk_guide_explains_each_state(heading: str, states: type[StrEnum]) -> None:
    assert cells(heading) == [f"`{state}`" for state in states]


def test_the_desk_guide_explains_each_flag() -> None:
    assert cells("Flags on a volume, in `tapeflow volumes` and `tapeflow vault inventory`:") == [
        f"`{flag}`" for flag in Flag
    ]


def changed(document: Document, **values: Any) -> bytes:
    return json.dumps(json.loads(document.json()) | values).encode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "the whole: Input should be an object"),
        (b"{}", "discriminator 'kind'"),
        (changed(ALL[0], kind="love_letter"), "'love_letter'"),
        (changed(ALL[0], zeal=1), "zeal: Unexpected keyword"),
        (changed(ALL[0], shipment="7"), "shipment: Input should be a valid integer"),
        (changed(ALL[0], shipment=0), "shipment: "),
        (changed(ALL[0], volumes=["V1", "V1"]), "volumes: .*listed twice"),
        (changed(ALL[0], volumes=["../V1"]), "volumes.0: "),
        (changed(ALL[0], issued_at="2030-01-01T00:00:00"), "issued_at: .*timezone"),
        (changed(ALL[0], reason="fun"), "reason: "),
        (changed(ALL[5], boxes=[{"number": 1, "volumes": [], "x": 1}]), "boxes.0.x: Unexpected"),
    ],
)
def test_what_is_not_a_document_is_refused_with_name_and_place(text: bytes, problem: str) -> None:
    with pytest.raises(Refused, match=problem) as caught:
        parse("letter.json", text)
    assert "letter.json" in caught.value.message


def test_a_missing_key_is_refused() -> None:
    plain = json.loads(ALL[3].json())
    del plain["seal"]
    with pytest.raises(Refused, match="seal: Field required"):
        parse("letter.json", json.dumps(plain).encode())


def test_another_format_is_named() -> None:
    with pytest.raises(UnknownFormat, match="format 2; this code knows 1"):
        parse("letter.json", changed(ALL[1], format=2))


def test_the_inventory_lists_volumes_by_place() -> None:
    def at(barcode: str, place: str, custody: Custody, *flags: Flag) -> Volume:
        return Volume(
            barcode,
            "set-1",
            0,
            Content.FULL,
            Health.OK,
            custody,
            frozenset(flags),
            place,
            0,
            0,
            None,
            None,
        )

    inventory = Inventory.of(
        "test",
        NOW,
        [
            at("V00001", "vault:north", Custody.VAULT, Flag.OVERDUE, Flag.MISSING),
            at("V00002", "library", Custody.MOUNTABLE),
        ],
    )
    assert [e.barcode for e in inventory.entries] == ["V00002", "V00001"]
    assert inventory.as_dict()["entries"][1] == {
        "barcode": "V00001",
        "tape_set": "set-1",
        "custody": "vault",
        "place": "vault:north",
        "health": "ok",
        "flags": ["missing", "overdue"],
    }
    assert json.dumps(inventory.as_dict())
    lines = inventory.text().splitlines()
    assert lines[0].startswith("VAULT INVENTORY   cluster test   2030-01-02")
    assert lines[-1].split()[:5] == ["V00001", "vault:north", "vault", "ok", "set-1"]
    assert lines[-1].split()[5:] == ["missing", "overdue"]
