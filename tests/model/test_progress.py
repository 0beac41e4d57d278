"""Progress that nobody watches takes all that progress takes."""

from restore_lib.model.progress import Progress, Silent


def test_silence_is_progress() -> None:
    progress: Progress = Silent()
    progress.stage("reading", objects=3, size=None)
    progress.advance(1)
    progress.advance(size=5)
