"""Makes known to Airflow what is Tapeflow's and is called by name."""

from airflow.plugins_manager import AirflowPlugin

from tapeflow_airflow.priorities import OldestRunFirst


class TapeflowPlugin(AirflowPlugin):
    """Registers the order of tasks that ``restore_wave`` asks for."""

    name = "tapeflow"
    priority_weight_strategies = [OldestRunFirst]  # noqa: RUF012 - declared so by Airflow
