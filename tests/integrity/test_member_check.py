import hashlib

from hypothesis import given
from hypothesis import strategies as st

from restore_lib.catalog.verifications import ExpectedMember
from restore_lib.integrity.member_check import MemberCheck


def members(data: bytes, sizes: list[tuple[int, int]]) -> list[ExpectedMember]:
    """Return members of these (gap before, size) in ``data``."""
    found, at = [], 0
    for number, (gap, size) in enumerate(sizes):
        at += gap
        digest = hashlib.sha256(data[at : at + size]).hexdigest()
        found.append(ExpectedMember(str(number), at, size, digest, "live", b"", 1, 1))
        at += size
    return found


SIZES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40)), max_size=8)


@given(sizes=SIZES, block=st.integers(1, 50), bad=st.sets(st.integers(0, 400)), cut=st.integers(0))
def test_each_member_is_judged_by_its_own_bytes(
    sizes: list[tuple[int, int]], block: int, bad: set[int], cut: int
) -> None:
    length = sum(gap + size for gap, size in sizes) + 7
    data = bytes(at % 251 for at in range(length))
    known = members(data, sizes)
    harmed = bytearray(data)
    for at in bad:
        if at < length:
            harmed[at] ^= 1
    blocks = [bytes(harmed[at : at + block]) for at in range(0, length, block)]
    given_up = cut % (len(blocks) + 1)
    check = MemberCheck(blocks[:given_up], known)
    assert list(check) == blocks[:given_up]
    passed = sum(map(len, blocks[:given_up]))
    wrong = [
        m.name
        for m in known
        if m.offset + m.stored_size <= passed
        and any(m.offset <= at < m.offset + m.stored_size for at in bad)
    ]
    assert check.wrong == wrong
    unread = [m for m in known if m.offset + m.stored_size > passed or (m.offset >= passed)]
    assert check.unread == (unread[0].name if unread else None)
