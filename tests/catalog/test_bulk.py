from hypothesis import given
from hypothesis import strategies as st

from restore_lib.catalog.bulk import CHUNK, chunks


@given(st.integers(0, 3 * CHUNK))
def test_chunks_are_the_values_in_order_and_never_too_long(count: int) -> None:
    values = range(count)
    cut = list(chunks(values))
    assert [value for chunk in cut for value in chunk] == list(values)
    assert all(0 < len(chunk) <= CHUNK for chunk in cut)
