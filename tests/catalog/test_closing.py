from restore_lib.catalog import audit, tape_sets, volumes
from restore_lib.catalog.closing import close_as_committed
from restore_lib.catalog.engine import Catalog
from restore_lib.model.states import SetState
from restore_lib.model.volume import Content
from tests.support.stripes import AT, begin, new_set

CONTENTS = [Content.BLANK, Content.LABELLED, Content.APPENDABLE]


def test_what_was_written_to_is_full_and_the_audit_tells_for_what(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        for written in (1, 2):
            volumes.change(
                connection,
                held.barcodes[written:],
                "content",
                *CONTENTS[written - 1 : written + 1],
                actor="test",
                reason="test",
                at=AT,
            )
        close_as_committed(connection, held, actor="test", work="repair", at=AT)
        assert tape_sets.tape_set(connection, held.id).state is SetState.CLOSED
        found = {v.barcode: v.content for v in volumes.volumes(connection, held.barcodes)}
        assert list(found.values()) == [Content.BLANK, Content.FULL, Content.FULL]
        [event] = audit.newest(connection, 1)
    assert (event["action"], event["subject"]) == ("repair.close_set", held.id)
    assert event["detail"] == {"volumes": list(held.barcodes)}
