"""The demonstration: a runaway deletion, and everything back from virtual tapes in a vault."""
