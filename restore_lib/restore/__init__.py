"""Tapes → objects: select → map → plan → recall → read → verify → publish → report."""
