"""How a long operation tells how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Receives stages and the objects and bytes done in each."""

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        """Begin a stage of ``objects`` objects and ``size`` bytes, where these are known."""
        ...

    def advance(self, objects: int = 0, size: int = 0) -> None:
        """Count ``objects`` objects and ``size`` bytes as done in the current stage."""
        ...


class Silent:
    """Progress that nobody watches."""

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        """Ignore the stage."""

    def advance(self, objects: int = 0, size: int = 0) -> None:
        """Ignore the advance."""
