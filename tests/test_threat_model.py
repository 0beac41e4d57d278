"""What docs/threat-model.md says of tapes, seen from outside: in the bytes of their images."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.catalog.tables import extents
from restore_lib.site import Site
from tests.support.sites import back_up, image, make_site, write_files

SECRET_NAME = b"photos/the-name-of-a-person.jpg"
TEXT = b"what nobody else is to read " * 400
NOISE = os.urandom(3000)
CONTENTS = {SECRET_NAME: TEXT, b"twin.txt": TEXT, b"noise.bin": NOISE}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = make_site(tmp_path_factory.mktemp("cluster"))
    write_files(made.config.library.path.parent / "live", CONTENTS)
    back_up(made)
    yield made
    made.close()


def tapes(site: Site) -> dict[str, bytes]:
    """Return the images of the one tape set, data volumes first."""
    written = {f"TF{n:04}L9": image(site, f"TF{n:04}L9").read_bytes() for n in range(3)}
    assert all(written.values())
    return written


def test_a_tape_shows_no_name_and_no_content(site: Site) -> None:
    for data in tapes(site).values():
        for key, content in CONTENTS.items():
            assert key not in data
            assert Path(os.fsdecode(key)).name.encode() not in data
            assert content[:24] not in data
            digest = hashlib.sha256(content)
            assert digest.digest() not in data
            assert digest.hexdigest().encode() not in data


def test_a_tape_shows_whose_it_is_and_for_whom_it_was_written(site: Site) -> None:
    for barcode, data in tapes(site).items():
        for fact in (barcode, site.config.cluster.id, "live-00001", *site.config.keys.recipients):
            assert fact.encode() in data


def test_parity_shows_the_barcodes_of_its_set_and_data_do_not(site: Site) -> None:
    *data, parity = tapes(site).items()
    assert all(barcode.encode() in parity[1] for barcode in tapes(site))
    for barcode, image_bytes in data:
        others = set(tapes(site)) - {barcode}
        assert not any(other.encode() in image_bytes for other in others)


def test_objects_of_the_same_content_do_not_look_alike(site: Site) -> None:
    with site.catalog.read() as connection:
        stored = connection.execute(extents.select()).mappings().all()
    twins = [row for row in stored if row["sha256"] == hashlib.sha256(TEXT).hexdigest()]
    assert len(twins) == 2
    assert len({row["stored_sha256"] for row in twins}) == 2
