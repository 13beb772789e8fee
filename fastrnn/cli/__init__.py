"""The command line: each command parses, calls one function, and prints.

What a command needs is imported inside it, so that `fastrnn --help` answers at once. Help texts are
arguments, not docstrings, which Python can be told to leave out.
"""

from fastrnn.cli import measuring, showing, training, writing
from fastrnn.cli.group import cli, main

COMMANDS = measuring, showing, training, writing  # they add themselves to the group

__all__ = ["COMMANDS", "cli", "main"]
