"""What these scripts share: where results are, and what they tell of where they come from."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastrnn.measure.worker import describe_machine, describe_versions

RESULTS = Path(__file__).parent / "results"


def result_path(kind: str, name: str) -> Path:
    """Where a result goes, in a folder that is there."""
    path = RESULTS / kind / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def command_of(script: str, arguments: Sequence[str]) -> str:
    return shlex.join(["python", f"benchmarks/{script}.py", *arguments])


def origin(script: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What `Result` tells, for results that are no timings; taken first, to see the load."""
    return {
        "command": command_of(script, arguments),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
