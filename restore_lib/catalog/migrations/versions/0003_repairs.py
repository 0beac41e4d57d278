"""repairs: members of tape sets that are written anew onto other volumes"""

import sqlalchemy as sa
from alembic import op

from restore_lib.catalog import columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repairs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("barcode", sa.String(length=32), nullable=False),
        sa.Column("replacement", sa.String(length=32), nullable=False),
        sa.Column("tape_set", sa.String(length=63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", columns.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", columns.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["barcode"], ["volumes.barcode"], name=op.f("fk_repairs_barcode")),
        sa.ForeignKeyConstraint(
            ["replacement"], ["volumes.barcode"], name=op.f("fk_repairs_replacement")
        ),
        sa.ForeignKeyConstraint(["tape_set"], ["tape_sets.id"], name=op.f("fk_repairs_tape_set")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repairs")),
    )
    op.create_index(op.f("ix_repairs_barcode"), "repairs", ["barcode"], unique=False)
