"""Fixtures of every test: each plugin is a file of tests/support."""

from trainer_node.openmp import let_waiting_threads_sleep

let_waiting_threads_sleep()  # plugins import PyTorch

pytest_plugins = ["tests.support.installation", "tests.support.control_plane", "tests.support.database"]
