"""What is written on a tape: labels, segments, indexes, age encryption, parity.

Bytes, paths and streams only; docs/tape-format.md is the description that a person reads.
"""
