"""How long reads take on virtual tapes; ``library.lto`` has the times of real ones.

T(mount) = 2 moves + load + locates + bytes / rate + rewind + unload, in seconds.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeModel:
    """Seconds for each step of a mount, and bytes a second."""

    move: float
    load: float
    locate: float
    rate: float
    rewind: float
    unload: float
    per_object: float

    def mount(self, objects: int, size: int) -> float:
        """Return the seconds that one mount takes to read ``objects`` of ``size`` bytes in all."""
        fixed = 2 * self.move + self.load + self.rewind + self.unload
        return fixed + self.locate + objects * self.per_object + size / self.rate


VIRTUAL = TimeModel(
    move=0.01, load=0.01, locate=0.01, rate=80e6, rewind=0.0, unload=0.01, per_object=0.004
)
