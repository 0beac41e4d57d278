"""The demonstration: real Airflow, real files, virtual tapes."""
