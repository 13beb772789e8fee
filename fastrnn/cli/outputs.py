"""The files that commands write."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fastrnn.console import ERR
from fastrnn.errors import FastrnnError


def check_output(path: str, keep: Sequence[str] = ()) -> None:
    """Find out before long work whether a file can be written, and that none is lost by it."""
    from fastrnn.storage.checkpoint import is_checkpoint
    from fastrnn.storage.files import shown

    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    kept = [os.path.realpath(one) for one in keep]
    in_kept_folder = any(target.startswith(one + os.sep) for one in kept)
    if is_checkpoint(path) or target in kept or (in_kept_folder and os.path.exists(target)):
        problem = "it is a checkpoint or a text in use"
    elif os.path.isdir(target):
        problem = "it is a folder"
    elif not os.path.isdir(folder):
        problem = "there is no such folder"
    elif not os.access(target if os.path.exists(target) else folder, os.W_OK):
        problem = "permission denied"
    else:
        return
    raise FastrnnError(f"cannot write {shown(path)}: {problem}; choose another path")


def say_what_was_written(*paths: str | None) -> None:
    from fastrnn.storage.files import shown

    for path in paths:
        if path is not None:
            ERR.say(f"Wrote {shown(path)}")
