"""Backups as the catalog knows them, without any tape behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from sqlalchemy import insert, select, update

from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.recovery_points import begin_recovery_point, commit_recovery_point
from restore_lib.catalog.tables import objects, versions

AT = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Content:
    """What a version holds; ``whole`` is whether all its parts are on tape."""

    data: bytes = b""
    modified_at: datetime = AT
    whole: bool = True
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", sha256(self.data).hexdigest())


def back_up(
    catalog: Catalog,
    contents: Mapping[bytes, Content],
    *,
    gone: Sequence[bytes] = (),
    commit: bool = True,
    store: str = "live",
) -> int:
    """Add a recovery point with new versions of ``contents``, and return its id."""
    with catalog.write() as connection:
        rp_id = begin_recovery_point(connection, "policy", store, AT)
        for key in gone:
            known = select(objects.c.id).where(objects.c.store == store, objects.c.key == key)
            live = versions.c.object_id == known.scalar_subquery()
            connection.execute(
                update(versions).where(live, versions.c.gone_rp.is_(None)).values(gone_rp=rp_id)
            )
        for key, content in contents.items():
            where = (objects.c.store == store) & (objects.c.key == key)
            object_id = connection.execute(select(objects.c.id).where(where)).scalar()
            if object_id is None:
                object_id = connection.execute(
                    insert(objects).values(store=store, key=key).returning(objects.c.id)
                ).scalar_one()
            connection.execute(
                update(versions)
                .where(versions.c.object_id == object_id, versions.c.gone_rp.is_(None))
                .values(gone_rp=rp_id)
            )
            connection.execute(
                insert(versions).values(
                    object_id=object_id,
                    first_rp=rp_id,
                    size=len(content.data),
                    sha256=content.sha256 if content.whole else None,
                    modified_at=content.modified_at,
                    metadata={},
                    parts=1,
                )
            )
        if commit:
            commit_recovery_point(connection, rp_id, AT, {})
    return rp_id
