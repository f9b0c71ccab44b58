"""What `rig` says of itself."""

import sys
from importlib.metadata import version

from tests.rig_command import rig

COMMANDS = (
    "run",
    "replay",
    "check",
    "verify",
    "recover",
    "info",
    "simulate",
    "train",
    "evaluate",
    "explain",
    "reconstruct",
)


def test_help_names_every_command():
    done = rig("--help")
    assert done.returncode == 0, done.stderr
    first_words = {line.strip(" │").partition(" ")[0] for line in done.stdout.splitlines()}
    assert set(COMMANDS) <= first_words


def test_the_version_is_one_line_for_a_report():
    done = rig("--version")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"cortexrig {version('cortexrig')}")
    assert f"Python {sys.version.split()[0]}" in line
