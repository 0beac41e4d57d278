"""What is readable on a volume that was verified, object by object."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from restore_lib.catalog import verifications
from restore_lib.catalog.verifications import VolumeResult
from restore_lib.integrity.tape_check import NOT_READ
from restore_lib.site import Site


class Readability(StrEnum):
    """Whether an object's bytes on a volume are those that were written."""

    READABLE = "readable"
    UNREADABLE = "unreadable"
    NOT_READ = "not_read"


@dataclass(frozen=True, slots=True)
class ObjectOnVolume:
    """An object, or part ``part`` of ``parts`` of one, in a member of a tape file."""

    file: int
    member: str
    store: str
    key: bytes
    part: int
    parts: int
    state: Readability


def objects_on(site: Site, result: VolumeResult) -> Iterator[ObjectOnVolume]:
    """Yield the objects on a data volume with what its verification showed; streaming.

    These are the objects that the catalog still has there; nothing is written to a volume after it
    was found damaged. A parity volume holds none. Nothing is readable on a volume whose label was
    not.
    """
    with site.catalog.read() as connection:
        expected = verifications.expected_volume(connection, result.barcode)
    if expected.position >= expected.k:
        return
    wrong = {
        (each["file"], each["member"]): each["what"] for each in result.problems if each["member"]
    }
    hopeless = not result.files and any(not each["file"] for each in result.problems)
    for file in expected.files:
        with site.catalog.read() as connection:
            members = verifications.expected_members(connection, result.barcode, file.number)
        reached = not hopeless
        for member in members:
            what = wrong.get((file.number, member.name))
            reached = reached and what != NOT_READ
            state = Readability.UNREADABLE if what else Readability.READABLE
            yield ObjectOnVolume(
                file.number,
                member.name,
                member.store,
                member.key,
                member.part,
                member.parts,
                state if reached else Readability.NOT_READ,
            )
