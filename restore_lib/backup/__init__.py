"""Objects → tapes: select → pack → protect → write → read back → commit."""
