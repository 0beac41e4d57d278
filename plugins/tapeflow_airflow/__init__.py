"""What only Airflow can hold of Tapeflow: retry policy, triggers, operators, the run's context."""
