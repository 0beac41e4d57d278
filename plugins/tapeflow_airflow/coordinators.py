"""How a worker runs a task: as Airflow does, but it sees at once that the task has ended."""

import os
import selectors
import time
from io import FileIO
from typing import Any

from airflow.sdk.execution_time.coordinator import BaseCoordinator
from airflow.sdk.execution_time.supervisor import ActivitySubprocess
from airflow.sdk.listener import get_listener_manager


class PromptCoordinator(BaseCoordinator):
    """Runs the tasks of the queues that ``[sdk] queue_to_coordinator`` gives to it.

    Airflow's own looks whether a task's process has ended when the process closes its sockets,
    which is often an instant too early. It then sleeps until a heartbeat is due, and the task holds
    its slot as long. Here the end of the process wakes it; so heartbeats can be as rare as they are
    by default, and a task that is shorter than their interval sends none.
    """

    def __init__(self) -> None:
        """Load the plugins that listen to tasks, once for all tasks of this worker."""
        get_listener_manager()

    def execute_task(self, **arguments: Any) -> BaseCoordinator.ExecutionResult:
        """Run one task in a process of its own, and return how it ended."""
        process = PromptSubprocess.start(**arguments)
        return self.ExecutionResult(process.wait(), process.final_state)


class PromptSubprocess(ActivitySubprocess):
    """The process of a task, whose end is among what is waited for."""

    def _register_pipe_readers(self, *pipes: Any, **more: Any) -> None:
        super()._register_pipe_readers(*pipes, **more)
        try:
            ended = FileIO(os.pidfd_open(self.pid))
        except OSError:  # such as a container that forbids it; Airflow's way is slower, no more
            return
        handlers = (lambda _: False, self.selector.unregister)
        self.selector.register(ended, selectors.EVENT_READ, handlers)

    def _on_child_started(self, **details: Any) -> None:
        begun = time.monotonic()
        super()._on_child_started(**details)
        # The api-server counts it as a heartbeat that the task has begun.
        self._last_heartbeat_attempt = begun
