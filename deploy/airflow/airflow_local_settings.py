"""Imported by every Airflow component at its start, when its folder is on the Python path.

Workers are forked, and so is the process of each task: what is imported here need not be imported
by each of thousands of tasks again. Nothing in here starts a thread or opens a connection.
"""

import restore_lib.backup.run
import restore_lib.restore.batch
import restore_lib.restore.flow
import restore_lib.restore.report
import restore_lib.site  # noqa: F401 - all of these are imported for their forks
