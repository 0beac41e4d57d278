"""retention, reclaim and repack: what expires, waits in quarantine, is brought back, and moves"""

import sqlalchemy as sa
from alembic import op

from restore_lib.catalog import columns

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    time = columns.UtcDateTime(timezone=True)
    op.add_column("recovery_points", sa.Column("kept_until", time, nullable=True))
    op.add_column("tape_sets", sa.Column("expired_at", time, nullable=True))
    op.add_column("volumes", sa.Column("former_set", sa.String(length=63), nullable=True))
    op.create_index(op.f("ix_items_version_id"), "items", ["version_id"], unique=False)
    op.create_index(op.f("ix_losses_version_id"), "losses", ["version_id"], unique=False)
    op.create_table(
        "repacks",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("policy", sa.String(length=63), nullable=False),
        sa.Column("recipients", sa.JSON(), nullable=False),
        sa.Column("tape_set", sa.String(length=63), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("payloads", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", time, nullable=False),
        sa.Column("ended_at", time, nullable=True),
        sa.ForeignKeyConstraint(["tape_set"], ["tape_sets.id"], name=op.f("fk_repacks_tape_set")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repacks")),
    )
    op.create_index(op.f("ix_repacks_tape_set"), "repacks", ["tape_set"], unique=False)
