import os
from pathlib import Path

import pytest

from restore_lib.stores import flush
from restore_lib.stores.flush import can_flush_file_system, flush_file_system


def test_a_file_system_is_flushed(tmp_path: Path) -> None:
    assert can_flush_file_system()
    (tmp_path / "file").write_bytes(b"data")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    flush_file_system(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError, match="descriptor"):
        flush_file_system(descriptor)


@pytest.mark.parametrize(
    ("system", "release", "tells"),
    [
        ("Linux", "6.1.0-18-amd64", True),
        ("Linux", "5.8.0", True),
        ("Linux", "5.4.0-42-generic", False),
        ("Linux", "10.0", True),
        ("Linux", "unknown", False),
        ("Darwin", "23.1.0", False),
    ],
)
def test_a_kernel_that_keeps_failed_writes_to_itself_is_not_used(
    system: str, release: str, *, tells: bool
) -> None:
    assert flush._tells_errors(system, release) is tells
