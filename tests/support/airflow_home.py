"""An Airflow for the process of the tests itself; to be set up before airflow is imported."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from demo.airflow_local import ROOT
from demo.airflow_settings import write_settings
from tests.support.airflow_env import local_airflow


def set_up() -> None:
    """Give this process an AIRFLOW_HOME of its own, with a migrated database; once is enough."""
    if "airflow" in sys.modules:
        if "TAPEFLOW_TEST_AIRFLOW" not in os.environ:
            msg = "airflow was imported before its home was set up"
            raise RuntimeError(msg)
        return
    folder = Path(tempfile.mkdtemp(prefix="tapeflow-airflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    airflow = local_airflow(folder)
    airflow.home.path.mkdir()
    write_settings(
        airflow.home, dags=ROOT / "dags", plugins=ROOT / "plugins", tuning=airflow.tuning
    )
    airflow.migrate()
    os.environ |= {
        "AIRFLOW_HOME": str(airflow.home.path),
        "AIRFLOW_CONFIG": str(airflow.home.config),
        "TAPEFLOW_TEST_AIRFLOW": "1",
    }
