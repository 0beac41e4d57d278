"""The stages of a restore, and how long each goes on while a restore is simulated."""

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """What a restore goes through; several go on at once."""

    PLAN = "plan"
    RECALL = "recall"
    ACCLIMATION = "acclimation"
    IMPORT = "import"
    READ = "read"
    REDUNDANCY = "redundancy"
    PUBLISH = "publish"


@dataclass(slots=True)
class Span:
    """How long a stage went on, without pauses, and when it last ended; in seconds."""

    seconds: float = 0.0
    ends: float = 0.0
    _open: int = 0
    _since: float = 0.0

    def begin(self, now: float) -> None:
        """Let one more part of the stage go on."""
        if not self._open:
            self._since = now
        self._open += 1

    def end(self, now: float) -> None:
        """End one part of the stage."""
        self._open -= 1
        if not self._open:
            self.seconds += now - self._since
        self.ends = now
