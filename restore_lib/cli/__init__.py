"""The `tapeflow` command: the same flows without Airflow, for the day when that is down."""

from restore_lib.cli.app import main

__all__ = ["main"]
