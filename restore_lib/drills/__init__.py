"""Rehearsals: a real restore into a scratch store, measured, with its evidence kept."""
