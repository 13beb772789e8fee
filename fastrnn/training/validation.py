"""Text that is held out: how surprised a network is by what it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fastrnn.errors import FastrnnError
from fastrnn.evaluation import Evaluator
from fastrnn.network import Weights
from fastrnn.text.streams import EncodedText, Items, Streams

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
    text : EncodedText
        The part.
    share : str
        The setting that held it out, for the message.
    separator : int, optional
        The character around items, which are dealt out to the streams whole.

    Attributes
    ----------
    characters : int
        How many it has.

    Raises
    ------
    FastrnnError
        If it has fewer than two characters: the first is only read.
    """

    def __init__(self, text: EncodedText, share: str, separator: int | None = None):
        self.characters = text.length
        if self.characters < 2:
            raise FastrnnError(
                f"{share} holds out {self.characters} of the text's characters, but at least 2 are "
                f"needed; give a longer text or a larger {share}"
            )
        batch = min(max(self.characters // LEAST, 1), STREAMS)
        self._streams: Streams | Items = (
            Streams(text, batch, 1) if separator is None else Items(text, batch, 1, separator)
        )
        self._batch, self._separator = batch, separator

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
