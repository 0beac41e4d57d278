"""Imported by every Airflow component at its start, when its folder is on the Python path.

Workers are forked, and so is the process of each task: what is imported here need not be imported
by each of thousands of tasks again. Nothing in here starts a thread or opens a connection.
"""

from importlib import import_module
from importlib.util import find_spec

__all__: list[str] = []  # Airflow would take other names for settings of its own

for _name in (
    "airflow.dag_processing.bundles.local",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.decorators",
    "jinja2.ext",
    "restore_lib.backup.run",
    "restore_lib.restore.batch",
    "restore_lib.restore.flow",
    "restore_lib.restore.report",
    "restore_lib.site",
    "restore_lib.stores.local",
):
    import_module(_name)

if find_spec("tapeflow_airflow"):  # not where Airflow runs other DAGs and plugins than ours
    for _name in ("operators", "policies", "runs", "triggers"):
        import_module(f"tapeflow_airflow.{_name}")
