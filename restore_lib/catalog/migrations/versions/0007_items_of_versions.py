"""the versions of items: held by a plan's own lock, instead of checked one by one"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("items") as items:
        items.drop_constraint("fk_items_version_id", type_="foreignkey")
