"""The installed `fastrnn` for tests that run it."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("fastrnn"))
TEXT = "The quick brown fox jumps over the lazy dog;\nso it goes, on and on and on.\n" * 20
EXAMPLE = ("a text.txt", "--hidden", "7", "--seq-length", "5")


def run(folder: Path, *args: str | Path, input: bytes = b"", **environment: str | None):
    """The command in `folder`; None removes a variable from its environment."""
    variables = {k: v for k, v in (os.environ | environment).items() if v is not None}
    ended = subprocess.run(
        [COMMAND, *args], cwd=folder, input=input, capture_output=True, env=variables, timeout=100
    )
    ended.stdout, ended.stderr = ended.stdout.decode(), ended.stderr.decode()
    assert "Traceback" not in ended.stderr
    assert "\r" not in ended.stdout + ended.stderr and "\x1b" not in ended.stdout + ended.stderr
    return ended


def error_of(folder: Path, *args: str | Path, code: int = 1, **options) -> str:
    """The one line of a command that fails and prints nothing else."""
    ended = run(folder, *args, **options)
    assert (ended.returncode, ended.stdout) == (code, "")
    *usage, line = ended.stderr.splitlines()
    assert len(usage) == (3 if code == 2 else 0)
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")
