"""A real Airflow for tests, on a home of its own and a migrated database made once."""

from collections.abc import Mapping
from pathlib import Path

from demo.airflow_local import ROOT, LocalAirflow
from demo.airflow_settings import Tuning

LOSS_TIMEOUT = 10


def local_airflow(
    folder: Path,
    *,
    dags: Path = ROOT / "dags",
    plugins: Path = ROOT / "plugins",
    env: Mapping[str, str] | None = None,
    parallelism: int = 4,
    drives: int = 2,
) -> LocalAirflow:
    """Return an Airflow, not yet started, that notices a killed task after ten seconds."""
    return LocalAirflow(
        folder / "airflow",
        dags,
        plugins,
        env,
        drives=drives,
        tuning=Tuning(parallelism=parallelism, loss_timeout=LOSS_TIMEOUT),
        template=ROOT / "var" / "cache",
    )
