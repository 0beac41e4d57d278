"""The whole line on a real Airflow: a small cluster, its vendor as a program, a scheduler."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from demo.airflow_client import AirflowClient
from demo.airflow_local import ROOT, LocalAirflow
from demo.processes import end_sessions, kill_session, start_session
from tests.support.airflow_env import local_airflow
from tests.support.sites import digests, make_site, open_site, write_files

POLICY = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"'
RUN_SECONDS = 120.0


class Line:
    """A cluster in ``root`` under a real Airflow, with ``files`` in its store ``live``."""

    def __init__(self, root: Path, files: int = 300) -> None:
        self.root = root
        random = Random(7)
        site = make_site(root, policy=POLICY, extra="[restore]\nbatch_objects = 40\n", drives=2)
        site.close()
        contents = {
            b"d%d/f%d.bin" % (n % 9, n): random.randbytes(random.randrange(20_000))
            for n in range(files)
        }
        write_files(root / "live", contents)
        self.before = digests(root / "live")
        environment = {"TAPEFLOW_CONFIG": str(root / "tapeflow.toml")}
        self.airflow: LocalAirflow = local_airflow(root, env=environment, parallelism=4)
        self._vendor: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[AirflowClient]:
        """Run Airflow and the vendor."""
        with self.airflow, self.airflow.client() as client:
            self.start_vendor()
            try:
                for dag_id in ("backup", "vault_out", "loss_scan", "restore", "restore_wave"):
                    client.wait_for_dag(dag_id)
                yield client
            finally:
                self.stop_vendor()

    def start_vendor(self) -> None:
        self._vendor = start_session(
            [sys.executable, "-m", "demo.vendor", "--config", str(self.root / "tapeflow.toml")],
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

    def report(self, request_id: int) -> dict[str, Any]:
        path = self.root / "reports" / f"restore-{request_id}.json"
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return report

    def site(self) -> Any:
        return open_site(self.root)
