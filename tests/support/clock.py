"""A clock that goes only when a test lets it."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Begins at a fixed time; ``sleep`` passes at once."""

    def __init__(self, at: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.advance(timedelta(seconds=seconds))

    def advance(self, by: timedelta) -> None:
        self.at += by
