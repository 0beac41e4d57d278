"""The whole line on a real Airflow: a small cluster, its vendor as a program, a scheduler."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from demo.airflow_client import AirflowClient
from demo.airflow_local import ROOT, LocalAirflow
from demo.processes import end_sessions, kill_session, start_session
from restore_lib.catalog import batches, volumes
from restore_lib.catalog.batches import Batch
from restore_lib.model.volume import Volume
from tests.support.airflow_env import local_airflow
from tests.support.sites import digests, make_site, open_site, write_files

POLICY = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"'
DAGS = ("backup", "vault_out", "loss_scan", "restore", "restore_wave")
RUN_SECONDS = 120.0


class Line:
    """A cluster in ``root`` under a real Airflow, with ``files`` files in its store ``live``."""

    def __init__(self, root: Path, files: int = 1000) -> None:
        self.root = root
        self.live = root / "live"
        make_site(root, policy=POLICY, capacity="3MB").close()
        config = root / "tapeflow.toml"
        text = config.read_text().replace('transit = "1s"', 'transit = "1h"')
        config.write_text(text.replace('lease = "60s"', 'lease = "10s"'))
        random = Random(7)
        write_files(
            self.live,
            {
                b"d%d/f%d.bin" % (n % 9, n): random.randbytes(random.randrange(15_000))
                for n in range(files)
            },
        )
        self.before = digests(self.live)
        self.airflow: LocalAirflow = local_airflow(root, env={"TAPEFLOW_CONFIG": str(config)})
        self._vendor: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[AirflowClient]:
        """Run Airflow and the vendor."""
        with self.airflow, self.airflow.client() as client:
            self.start_vendor()
            try:
                for dag_id in DAGS:
                    client.wait_for_dag(dag_id)
                yield client
            finally:
                self.stop_vendor()

    def start_vendor(self) -> None:
        config = str(self.root / "tapeflow.toml")
        self._vendor = start_session(
            [sys.executable, "-m", "demo.vendor", "--config", config, "--delay", "1"],
            env=self.airflow.environment,
            cwd=ROOT,
            log=self.root / "vendor.log",
        )

    def stop_vendor(self) -> None:
        if self._vendor is not None:
            end_sessions([self._vendor], grace=5.0)
            self._vendor = None

    def kill_vendor(self) -> None:
        assert self._vendor is not None
        kill_session(self._vendor.pid)
        self._vendor.wait()
        self._vendor = None

    def omit(self, barcode: str) -> None:
        """Have the vendor leave a volume out of the first shipment that asks for it."""
        (self.root / "van" / "omit.json").write_text(json.dumps({"barcodes": [barcode]}))

    def run(
        self, client: AirflowClient, dag_id: str, conf: Mapping[str, Any] | None = None
    ) -> tuple[str, str]:
        """Trigger a DAG and wait for its end; return run id and state."""
        run_id = client.trigger(dag_id, conf)
        return run_id, client.wait_for_run(dag_id, run_id, timeout=RUN_SECONDS)

    def volumes(self) -> list[Volume]:
        with closing(open_site(self.root)) as site, site.catalog.read() as connection:
            return volumes.volumes(connection)

    def data_volumes(self) -> dict[str, list[str]]:
        """Return the data volumes of each tape set."""
        found: dict[str, list[str]] = {}
        for volume in self.volumes():
            if volume.tape_set is not None and volume.position in {0, 1}:
                found.setdefault(volume.tape_set, []).append(volume.barcode)
        return found

    def batches(self) -> list[Batch]:
        with closing(open_site(self.root)) as site, site.catalog.read() as connection:
            return batches.batches_of(connection)

    def kill_task(self, task_ids: Collection[str]) -> str | None:
        """SIGKILL the process of one of these tasks; return which it was, if one of them runs."""
        for pid in self.airflow.pids["scheduler"]:
            task_id = title(pid).removeprefix("airflow worker -- ")
            if task_id in task_ids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return task_id
        return None

    def report(self, request_id: int) -> dict[str, Any]:
        path = self.root / "reports" / f"restore-{request_id}.json"
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return report


def title(pid: int) -> str:
    """Return the title of a process, empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").strip("\0 ")
    return ""


def until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Poll until ``condition`` comes true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)
