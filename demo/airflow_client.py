"""A client of Airflow's public REST API: what a person does in the UI, as calls."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import httpx

FINAL_STATES = frozenset({"success", "failed"})
_PAGE = 100
_POLL = 0.5


class AirflowApiError(Exception):
    """Airflow refused a request, or did not do what was waited for; the message says which."""


class AirflowClient:
    """One user's session with an Airflow api-server.

    Logs in at the first request and again when its token has expired. A request that gets no
    answer, or a 5xx one, is repeated for up to ``patience`` seconds, so that a restart of the
    api-server does not show; every request made here may safely be repeated.
    """

    def __init__(self, base_url: str, user: str, password: str, *, patience: float = 60.0) -> None:
        self.base_url = base_url
        self.patience = patience
        self._login = {"username": user, "password": password}
        self._http = httpx.Client(base_url=base_url, timeout=30.0, trust_env=False)
        self._token: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> str:
        """Start a run and return its id; a run of this id that exists already is left as it is."""
        run_id = run_id or f"manual__{datetime.now(UTC):%Y%m%dT%H%M%S}_{uuid4().hex[:8]}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        self._request("POST", f"{_dag(dag_id)}/dagRuns", json=body, also=HTTPStatus.CONFLICT)
        return run_id

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run as the API describes it: state, conf, start_date, end_date and more."""
        return self._get(_run(dag_id, run_id))

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return all runs of a DAG, oldest first."""
        return self._pages(f"{_dag(dag_id)}/dagRuns", "dag_runs", order_by="id")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run, mapped ones each with its ``map_index``."""
        return self._pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances", order_by="id")

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        map_index: int = -1,
        key: str = "return_value",
    ) -> Any:
        """Return a value that a task has pushed."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{_part(task_id)}/xcomEntries/{_part(key)}"
        return self._get(path, map_index=map_index)["value"]

    def import_errors(self) -> dict[str, str]:
        """Return the trace of each DAG file that can't be parsed, by its name."""
        errors = self._pages("/importErrors", "import_errors", order_by="id")
        return {str(error["filename"]): str(error["stack_trace"]) for error in errors}

    def set_pool(self, name: str, slots: int, *, description: str = "") -> None:
        """Create or resize a pool; a deferred task holds no slot of it.

        One that is so already is not written: on SQLite, an api-server whose event loop waits for
        another writer to end may hang while tasks report to it.
        """
        wanted = {"slots": slots, "description": description, "include_deferred": False}
        found = self._find(f"/pools/{_part(name)}")
        if found is None:
            self._request("POST", "/pools", json={"name": name, **wanted})
        elif any(found[field] != value for field, value in wanted.items()):
            self._request("PATCH", f"/pools/{_part(name)}", json={"pool": name, **wanted})

    def clear(
        self,
        dag_id: str,
        run_id: str,
        *,
        task_ids: Sequence[str] | None = None,
        only_failed: bool = False,
    ) -> int:
        """Let tasks of a run, by default all, run again; return how many."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": None if task_ids is None else list(task_ids),
            "only_failed": only_failed,
            "reset_dag_runs": True,
        }
        answer = self._request("POST", f"{_dag(dag_id)}/clearTaskInstances", json=body)
        return int(answer.json()["total_entries"])

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60.0) -> None:
        """Wait until a DAG is parsed, and unpause it.

        Raises AirflowApiError with the import errors when it is not there in time.
        """
        deadline = time.monotonic() + timeout
        while (found := self._find(_dag(dag_id))) is None:
            if time.monotonic() > deadline:
                errors = "".join(
                    f"\n{name}:\n{trace}" for name, trace in self.import_errors().items()
                )
                msg = f"Airflow has no DAG {dag_id!r} after {timeout:.0f} s.{errors}"
                raise AirflowApiError(msg)
            time.sleep(_POLL)
        if found["is_paused"]:
            self._request("PATCH", _dag(dag_id), json={"is_paused": False})

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float,
        on_progress: Callable[[str, Mapping[str, int]], None] | None = None,
        poll: float = _POLL,
    ) -> str:
        """Wait until a run has ended and return its state: ``success`` or ``failed``.

        ``on_progress`` gets the run's state and the number of task instances in each state (a task
        that has none yet counts as ``none``), at each poll. Raises AirflowApiError after
        ``timeout`` seconds, with the tasks that have not ended.
        """
        deadline = time.monotonic() + timeout
        while True:
            state = str(self.run(dag_id, run_id)["state"])
            if on_progress is not None:
                on_progress(state, self.task_states(dag_id, run_id))
            if state in FINAL_STATES:
                return state
            if time.monotonic() > deadline:
                counts = dict(self.task_states(dag_id, run_id))
                msg = f"Run {run_id} of {dag_id} is {state} after {timeout:.0f} s; tasks: {counts}"
                raise AirflowApiError(msg)
            time.sleep(poll)

    def task_states(self, dag_id: str, run_id: str) -> Counter[str]:
        """Return how many task instances of a run are in each state."""
        tasks = self.task_instances(dag_id, run_id)
        return Counter(str(task["state"] or "none") for task in tasks)

    def _pages(self, path: str, field: str, **query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            page = self._get(path, limit=_PAGE, offset=len(rows), **query)[field]
            rows += page
            if len(page) < _PAGE:
                return rows

    def _get(self, path: str, **query: str | int) -> dict[str, Any]:
        answer: dict[str, Any] = self._request("GET", path, params=query).json()
        return answer

    def _find(self, path: str) -> dict[str, Any] | None:
        answer = self._request("GET", path, also=HTTPStatus.NOT_FOUND)
        found: dict[str, Any] = answer.json()
        return None if answer.status_code == HTTPStatus.NOT_FOUND else found

    def _request(
        self, method: str, path: str, *, also: HTTPStatus | None = None, **arguments: Any
    ) -> httpx.Response:
        """Send a request; AirflowApiError on a status that is no success and not ``also``."""
        answer = self._authorised(method, path, **arguments)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            self._token = None
            answer = self._authorised(method, path, **arguments)
        if not answer.is_success and answer.status_code != also:
            msg = f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
            raise AirflowApiError(msg)
        return answer

    def _authorised(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if self._token is None:
            answer = self._patiently("POST", "/auth/token", json=self._login)
            if not answer.is_success:
                msg = f"Airflow at {self.base_url} refused the login: {answer.text[:500]}"
                raise AirflowApiError(msg)
            self._token = str(answer.json()["access_token"])
        headers = {"Authorization": f"Bearer {self._token}"}
        return self._patiently(method, f"/api/v2{path}", headers=headers, **arguments)

    def _patiently(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                answer = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    msg = f"Airflow at {self.base_url} does not answer: {error}"
                    raise AirflowApiError(msg) from error
            else:
                if not answer.is_server_error or time.monotonic() > deadline:
                    return answer
            time.sleep(_POLL)


def _part(name: str) -> str:
    return quote(name, safe="")


def _dag(dag_id: str) -> str:
    return f"/dags/{_part(dag_id)}"


def _run(dag_id: str, run_id: str) -> str:
    return f"{_dag(dag_id)}/dagRuns/{_part(run_id)}"
