"""Tapeflow's library: backup to tape, restore from it, and proof of both; no Airflow in it."""
