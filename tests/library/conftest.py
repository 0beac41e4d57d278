"""A small virtual library for the tests of this folder."""

from pathlib import Path

import pytest

from restore_lib.library.virtual import VirtualLibrary


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    """Six slots of which VT0001 to VT0003 take three, two drives, two import/export slots."""
    made = VirtualLibrary.create(
        tmp_path, slots=6, drives=2, import_export=2, capacity_bytes=1 << 20
    )
    made.add_blank(["VT0001", "VT0002", "VT0003"])
    return made
