"""Kill work at chosen instants, for real: in a process of its own, by SIGKILL."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, event


def killed_before(
    step: int, calls: Sequence[tuple[Any, str]], work: Callable[[], object], *, commits: bool = True
) -> bool:
    """Run ``work`` in a process that is killed before its ``step``-th boundary, from 1 on.

    Boundaries are calls of the named functions of classes or modules, and commits of the catalog.
    Return whether it was killed; False when it came to its end before.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            left = step

            def count(*_: object) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            with pytest.MonkeyPatch.context() as patch:
                for owner, name in calls:
                    patch.setattr(owner, name, _counted(getattr(owner, name), count))
                if commits:
                    event.listen(Engine, "commit", count)
                work()
            code = 0
        except BaseException:  # noqa: BLE001  a child must not go on as a second pytest
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the work failed by itself; see stderr"
    return False


def _counted(function: Callable[..., Any], count: Callable[[], None]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        count()
        return function(*args, **kwargs)

    return counted
