"""The `fastrnn` command for tests: the installed one, and within this process."""

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from fastrnn.cli import cli

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


def run_here(folder: Path, *args: str | Path, input: bytes = b""):
    """As `run`, within this process: where its start and its end are not what is tested."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    logger = logging.getLogger("fastrnn")
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input)))
        patch.setattr(logger, "handlers", [])
        patch.setattr(logger, "propagate", True)
        try:
            cli([str(one) for one in args], prog_name="fastrnn")
        except SystemExit as end:
            code = end.code or 0
    texts = [file.buffer.getvalue().decode() for file in (out, err)]
    return subprocess.CompletedProcess(args, code, *texts)


def error_of(folder: Path, *args: str | Path, code: int = 1, run=run_here) -> str:
    """The one line of a command that fails and prints nothing else."""
    ended = run(folder, *args)
    assert (ended.returncode, ended.stdout) == (code, "")
    *usage, line = ended.stderr.splitlines()
    assert len(usage) == (3 if code == 2 else 0)
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")
