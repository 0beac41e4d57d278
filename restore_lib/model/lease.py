"""The right to use a drive for a while."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of ``holder`` to use ``drive`` until ``expires_at``.

    ``token`` is greater than that of every earlier lease on the drive. A renewal makes the lease
    last ``ttl`` from then on.
    """

    drive: int
    token: int
    holder: str
    expires_at: datetime
    ttl: timedelta
