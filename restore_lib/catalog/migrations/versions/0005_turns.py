"""priorities of restores, and how many of their batches run at once"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "restore_requests",
        sa.Column("priority", sa.String(length=16), server_default="normal", nullable=False),
    )
    op.add_column("restore_requests", sa.Column("at_once", sa.Integer(), nullable=True))
