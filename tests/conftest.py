"""Fixtures for all tests."""

from hypothesis import settings

pytest_plugins = ["tests.support.postgres", "tests.support.catalogs", "tests.support.commands"]

settings.register_profile("slow machines are right too", deadline=None)
settings.load_profile("slow machines are right too")
