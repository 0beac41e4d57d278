"""other versions with the same content: found by it, and read in place of an object's own"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("items") as items:
        items.add_column(sa.Column("source_id", sa.BigInteger(), nullable=True))
        items.drop_constraint("fk_items_request_id", type_="foreignkey")
        items.drop_constraint("fk_items_batch_id", type_="foreignkey")
    op.create_index("ix_versions_sha256", "versions", ["sha256", "id"], unique=False)
