"""Retention: recovery points expire by policy, and what nothing needs any more is reclaimed."""
