"""Fixtures for all tests."""

pytest_plugins = ["tests.support.postgres", "tests.support.catalogs", "tests.support.commands"]
