"""Text that is held out: how surprised a network is by what it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fastrnn.errors import FastrnnError
from fastrnn.evaluation import Evaluator
from fastrnn.network import Weights
from fastrnn.text.streams import EncodedText, Items, Lines, Streams

# The text is read as so many streams side by side, each from a state of zeros, and a short one as
# fewer. More are faster, and lose more of what came before their starts. The loss depends on them,
# so their number depends on nothing but the length of the text.
STREAMS = 16
LEAST = 1024  # characters of a stream, if there are several

SEQ_LENGTH = 64  # of a chunk of the evaluation, which does not change its result
PIECE_WORK = 2**31  # multiply-adds at a time, some hundredths of a second


def out_of_patience(losses: Sequence[float], patience: int | None) -> bool:
    """Whether so many validations were no lower than the lowest before them."""
    if patience is None or len(losses) == 0:
        return False
    return len(losses) - 1 - int(np.argmin(losses)) >= patience


class HeldOut:
    """A part of the text that is not trained on, and the loss of a network on it.

    The state is carried through all of each stream. The loss does not depend on the number of
    threads.

    Parameters
    ----------
    text : EncodedText or Lines
        The part; its lines are dealt out to the streams whole.
    share : str
        The setting that held it out, for the message.

    Attributes
    ----------
    characters : int
        How many it has.

    Raises
    ------
    FastrnnError
        If it has fewer than two characters, of which the first is only read; or no line.
    """

    def __init__(self, text: EncodedText | Lines, share: str):
        self.characters = text.length
        has, noun, least = self.characters, "characters", 2
        if isinstance(text, Lines):
            has, noun, least = len(text.starts), "lines", 1
        if has < least:
            raise FastrnnError(
                f"{share} holds out {has} of the text's {noun}, but at least {least} are needed; "
                f"give a longer text or a larger {share}"
            )
        self._batch = min(max(self.characters // LEAST, 1), STREAMS)
        self._streams: Streams | Items
        self._separator: int | None
        if isinstance(text, Lines):
            self._separator, self._streams = text.separator, Items(text, self._batch, 1)
        else:
            self._separator, self._streams = None, Streams(text, self._batch, 1)

    def loss(
        self, weights: Weights, threads: int = 1, stop: Callable[[], bool] = lambda: False
    ) -> float | None:
        """Nats per character, without dropout.

        Parameters
        ----------
        weights : Weights
            Of the model, which stays as it is.
        threads : int
        stop : callable
            Is asked several times a second, and when it says so this is given up.

        Returns
        -------
        float or None
            None if it was given up.
        """
        evaluator = Evaluator(weights, SEQ_LENGTH, self._batch, threads, self._separator)
        chunk_work = SEQ_LENGTH * self._batch * weights.layout.size
        rows = SEQ_LENGTH * max(1, PIECE_WORK // chunk_work)
        sums = []
        for first in range(0, self._streams.chunks, rows):
            if stop():
                return None
            codes = self._streams.read(first, min(rows, self._streams.chunks - first))
            # Sums that are rounded once are the same on every processor.
            sums.append(math.fsum(evaluator.losses(codes).ravel().tolist()))
        return math.fsum(sums) / self._streams.predictions
