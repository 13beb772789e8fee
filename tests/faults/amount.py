"""How much of a fault is tried: a little in the suite, all by `./run.sh faults`."""

import os

FULL = os.environ.get("FASTRNN_FAULTS") == "full"


def amount(quick: int, full: int) -> int:
    return full if FULL else quick


def figure(text: str) -> None:
    """A line for docs/reliability.md."""
    print(f"\n  {text}", flush=True)
