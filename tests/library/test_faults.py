"""Faults beside an image: what is written is read, and nothing else is believed."""

from pathlib import Path

import pytest

from restore_lib.errors import ConfigError
from restore_lib.library.faults import DriveDies, Faults, faults_path, read_faults, write_faults

ALL = Faults(
    unreadable=True,
    unreadable_blocks=((1, 0, 3), (2, 5, 5)),
    drive_dies=DriveDies(after_blocks=7),
    capacity_bytes=1000,
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "VT0001.tap"


def test_none_without_a_file(image: Path) -> None:
    assert read_faults(image) == Faults()


@pytest.mark.parametrize("faults", [ALL, Faults(unreadable=True), Faults(capacity_bytes=5)])
def test_round_trip(image: Path, faults: Faults) -> None:
    write_faults(image, faults)
    assert read_faults(image) == faults
    assert [p.name for p in image.parent.iterdir()] == ["VT0001.faults.json"]


def test_the_form_that_people_write(image: Path) -> None:
    faults_path(image).write_text(
        '{"unreadable": true, "unreadable_blocks": [[1, 0, 3], [2, 5, 5]],'
        ' "drive_dies": {"after_blocks": 7}, "capacity_bytes": 1000}'
    )
    assert read_faults(image) == ALL


def test_writing_no_faults_removes_the_file(image: Path) -> None:
    write_faults(image, ALL)
    write_faults(image, Faults())
    write_faults(image, Faults())
    assert list(image.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"unreadble": true}', "unreadble"),
        ('{"unreadable": "yes"}', "unreadable"),
        ('{"unreadable_blocks": [[1, 2]]}', "unreadable_blocks"),
        ('{"unreadable_blocks": [[1, -2, 3]]}', "unreadable_blocks"),
        ('{"drive_dies": {"after_block": 1}}', "after_block"),
        ('{"capacity_bytes": 0}', "capacity_bytes"),
        ("not JSON", "the file"),
        ("", "the file"),
    ],
)
def test_bad_file_is_named_with_its_key(image: Path, text: str, where: str) -> None:
    faults_path(image).write_text(text)
    with pytest.raises(ConfigError, match=rf"VT0001\.faults\.json: .*{where}"):
        read_faults(image)


def test_hit() -> None:
    assert [ALL.hit(1, n) for n in range(5)] == [True, True, True, True, False]
    assert ALL.hit(2, 5)
    assert not ALL.hit(2, 4)
    assert not ALL.hit(0, 0)
