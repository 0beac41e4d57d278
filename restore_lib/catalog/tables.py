"""The tables of the catalog.

A version of an object is live in the recovery points from ``first_rp`` up to, not including,
``gone_rp`` of the same store; so a recovery point costs only what changed. Rows of a recovery point
that is not committed are invisible to restores.

The ``source_id`` of an item is the version that is read for it, where that is another one than its
own with the same content. Its request, batch and version are no foreign keys, since to check them
row by row would take as long as the whole plan of a million items: a plan makes the first two in
the same transaction, which holds all versions (``liveness.hold``), and with a version goes what
ended items still say of it.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
)

from restore_lib.catalog.columns import Digest, Id, Json, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True, autoincrement=True)


objects = Table(
    "objects",
    metadata,
    _id(),
    Column("store", String(63), nullable=False),
    Column("key", LargeBinary, nullable=False),
    UniqueConstraint("store", "key"),
)

versions = Table(
    "versions",
    metadata,
    _id(),
    Column("object_id", ForeignKey("objects.id"), nullable=False, index=True),
    Column("first_rp", ForeignKey("recovery_points.id"), nullable=False, index=True),
    Column("gone_rp", ForeignKey("recovery_points.id"), index=True),
    Column("store_version", Text),
    Column("etag", Text),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Digest),
    Column("modified_at", UtcDateTime, nullable=False),
    Column("content_type", Text),
    Column("metadata", Json, nullable=False),
    Column("parts", Integer, nullable=False),
    Index("ix_versions_sha256", "sha256", "id"),
)

recovery_points = Table(
    "recovery_points",
    metadata,
    _id(),
    Column("policy", String(63), nullable=False),
    Column("store", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("committed_at", UtcDateTime),
    Column("kept_until", UtcDateTime),
    Column("summary", Json, nullable=False),
)

backup_jobs = Table(
    "backup_jobs",
    metadata,
    _id(),
    Column("rp_id", ForeignKey("recovery_points.id"), nullable=False, index=True),
    Column("after_key", LargeBinary),
    Column("until_key", LargeBinary),
    Column("objects", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("run", Integer, nullable=False, server_default="0"),
    Column("summary", Json, nullable=False),
)

tape_sets = Table(
    "tape_sets",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("policy", String(63), nullable=False),
    Column("k", Integer, nullable=False),
    Column("m", Integer, nullable=False),
    Column("block_size", Integer, nullable=False),
    Column("recipients", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("stripes", Integer, nullable=False),
    Column("job_id", ForeignKey("backup_jobs.id")),
    Column("created_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("expired_at", UtcDateTime),
)

volumes = Table(
    "volumes",
    metadata,
    Column("barcode", String(32), primary_key=True),
    Column("tape_set", ForeignKey("tape_sets.id"), index=True),
    Column("position", Integer),
    Column("content", String(24), nullable=False),
    Column("health", String(16), nullable=False),
    Column("custody", String(24), nullable=False, index=True),
    Column("flags", Json, nullable=False),
    Column("place", String(80), nullable=False),
    Column("files", Integer, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("verified_at", UtcDateTime),
    Column("ready_at", UtcDateTime),
    Column("former_set", String(63)),
    UniqueConstraint("tape_set", "position"),
)

stripes = Table(
    "stripes",
    metadata,
    _id(),
    Column("tape_set", ForeignKey("tape_sets.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("rp_id", ForeignKey("recovery_points.id"), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("committed_at", UtcDateTime, nullable=False),
    UniqueConstraint("tape_set", "number"),
)

tape_files = Table(
    "tape_files",
    metadata,
    Column("stripe_id", ForeignKey("stripes.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("barcode", ForeignKey("volumes.barcode"), nullable=False, index=True),
    Column("blocks", BigInteger, nullable=False),
    Column("sha256", Digest, nullable=False),
    Column("index_offset", BigInteger),
)

extents = Table(
    "extents",
    metadata,
    _id(),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("part", Integer, nullable=False),
    Column("stripe_id", ForeignKey("stripes.id"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("member", String(32), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Digest, nullable=False),
    Column("stored_size", BigInteger, nullable=False),
    Column("stored_sha256", Digest, nullable=False),
    UniqueConstraint("version_id", "part"),
)

extent_in_tape_file = and_(
    tape_files.c.stripe_id == extents.c.stripe_id, tape_files.c.position == extents.c.position
)
"""The condition that joins an extent to the tape file that it lies in."""

custody_events = Table(
    "custody_events",
    metadata,
    _id(),
    Column("barcode", ForeignKey("volumes.barcode"), nullable=False, index=True),
    Column("at", UtcDateTime, nullable=False),
    Column("field", String(16), nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("place", String(80), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("shipment_id", ForeignKey("shipments.id")),
)

shipments = Table(
    "shipments",
    metadata,
    _id(),
    Column("direction", String(4), nullable=False),
    Column("state", String(24), nullable=False),
    Column("vault", String(63), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("request_id", ForeignKey("restore_requests.id"), index=True),
    Column("follows", ForeignKey("shipments.id")),
    Column("round", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime),
    Column("arrived_at", UtcDateTime),
    Column("seal", Text),
)

shipment_lines = Table(
    "shipment_lines",
    metadata,
    Column("shipment_id", ForeignKey("shipments.id"), primary_key=True),
    Column("barcode", ForeignKey("volumes.barcode"), primary_key=True),
    Column("box", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("note", Text, nullable=False, server_default=""),
)

incidents = Table(
    "incidents",
    metadata,
    _id(),
    Column("store", String(63), nullable=False),
    Column("reference", Text, nullable=False),
    Column("rp_id", ForeignKey("recovery_points.id")),
    Column("found_at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("counts", Json, nullable=False),
)

losses = Table(
    "losses",
    metadata,
    _id(),
    Column("incident_id", ForeignKey("incidents.id"), nullable=False, index=True),
    Column("key", LargeBinary, nullable=False),
    Column("loss_class", String(32), nullable=False),
    Column("version_id", ForeignKey("versions.id"), index=True),
    Column("size", BigInteger),
    Column("sha256", Digest),
)

restore_requests = Table(
    "restore_requests",
    metadata,
    _id(),
    Column("store", String(63), nullable=False),
    Column("target", String(63), nullable=False),
    Column("overwrite", String(16), nullable=False),
    Column("source", Json, nullable=False),
    Column("incident_id", ForeignKey("incidents.id")),
    Column("rp_id", ForeignKey("recovery_points.id")),
    Column("reason", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", String(16), nullable=False, server_default="normal"),
    Column("at_once", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("plan", Json),
    Column("verdict", String(16)),
    Column("report", Text),
)

waves = Table(
    "waves",
    metadata,
    _id(),
    Column("request_id", ForeignKey("restore_requests.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("runner", Text, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("touched_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    UniqueConstraint("request_id", "number"),
)

batches = Table(
    "batches",
    metadata,
    _id(),
    Column("request_id", ForeignKey("restore_requests.id"), nullable=False, index=True),
    Column("wave_id", ForeignKey("waves.id"), index=True),
    Column("kind", String(16), nullable=False),
    Column("barcode", ForeignKey("volumes.barcode")),
    Column("volumes", Json, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("estimate", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("error", Text),
)

items = Table(
    "items",
    metadata,
    _id(),
    Column("request_id", Id, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("version_id", Id, index=True),
    Column("source_id", BigInteger),
    Column("loss_class", String(32), nullable=False),
    Column("batch_id", Id, index=True),
    Column("state", String(16), nullable=False),
    Column("way", String(16)),
    Column("size", BigInteger),
    Column("sha256", Digest),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("error_code", String(32)),
    Column("error", Text),
    Column("ended_at", UtcDateTime),
    UniqueConstraint("request_id", "key"),
    Index("ix_items_request_state", "request_id", "state"),
)

drills = Table(
    "drills",
    metadata,
    _id(),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("requests", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("verdict", String(16)),
)

verification_runs = Table(
    "verification_runs",
    metadata,
    _id(),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("verdict", String(16)),
)

verification_results = Table(
    "verification_results",
    metadata,
    Column("run_id", ForeignKey("verification_runs.id"), primary_key=True),
    Column("barcode", ForeignKey("volumes.barcode"), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("files", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("problems", Json, nullable=False),
    Column("at", UtcDateTime),
)

repairs = Table(
    "repairs",
    metadata,
    _id(),
    Column("barcode", ForeignKey("volumes.barcode"), nullable=False, index=True),
    Column("replacement", ForeignKey("volumes.barcode"), nullable=False),
    Column("tape_set", ForeignKey("tape_sets.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("files", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)

repacks = Table(
    "repacks",
    metadata,
    _id(),
    Column("policy", String(63), nullable=False),
    Column("recipients", Json, nullable=False),
    Column("tape_set", ForeignKey("tape_sets.id"), index=True),
    Column("state", String(16), nullable=False),
    Column("run", Integer, nullable=False),
    Column("payloads", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)

drive_leases = Table(
    "drive_leases",
    metadata,
    Column("drive", Integer, primary_key=True, autoincrement=False),
    Column("token", BigInteger, nullable=False),
    Column("holder", Text),
    Column("barcode", String(32)),
    Column("expires_at", UtcDateTime),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(63), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Json, nullable=False),
    Column("previous", Digest, nullable=False),
    Column("digest", Digest, nullable=False, unique=True),
    CheckConstraint("id > 0", name="positive"),
)
