"""What depends on the number of the update: how many there are, their learning rates, dropout.

Pure functions of it, so a training that is resumed goes on with the same bits; and the same on
every machine: nothing here comes from the system's mathematical library.
"""

from __future__ import annotations

from fastrnn.config import Config


def total_updates(config: Config, chunks: int) -> int:
    """After how many updates a training ends, with `chunks` of them in an epoch."""
    limits = [] if config.epochs is None else [config.epochs * chunks]
    return min(limits if config.updates is None else [*limits, config.updates])
