"""Fixtures of every test: each plugin is a file of tests/support."""

pytest_plugins = ["tests.support.installation", "tests.support.control_plane", "tests.support.database"]
