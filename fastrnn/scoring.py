"""How surprised a model is by a text: in all, by every line, by every character.

The surprise at a character is -ln of the probability that the model gave it, in nats. The first
character of a text is read, but was not predicted, so it has none and is not counted.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fastrnn.errors import FastrnnError
from fastrnn.evaluation import Evaluator
from fastrnn.network import Weights
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.threads import ENOUGH, available_cores

SEQ_LENGTH = 128  # characters at a time; the state is carried, so it decides nothing but the speed
LINES_AT_ONCE = 64  # by a thread
LONG = 4096  # characters of a line that is read alone, as the others would wait for it
LINES_SORTED = 16  # batches of lines that are put in order of their lengths, for little waste


@dataclass(frozen=True)
class Score:
    """What a model makes of a text.

    Attributes
    ----------
    characters : int
        That were predicted: all but the first.
    nats : float
        The surprise at all of them.
    unknown : int
        How many characters the model does not know; what was done with them is the caller's choice.
    """

    characters: int
    nats: float
    unknown: int = 0

    @property
    def nats_per_character(self) -> float:
        """NaN if nothing was predicted."""
        return self.nats / self.characters if self.characters else math.nan

    @property
    def bits_per_character(self) -> float:
        return self.nats_per_character / math.log(2)

    @property
    def perplexity(self) -> float:
        """Among how many equally likely characters it was as hard to choose."""
        return math.exp(self.nats_per_character)


@dataclass(frozen=True)
class LineScore:
    """What a model makes of a line as a text of its own, from its first character to its end."""

    line: int  # counted from 1
    score: Score
    text: str


class Reader:
    """Reads one text with a model, from its start, piece by piece.

    Parameters
    ----------
    weights : Weights
    vocabulary : Vocabulary
    unknown : {"error", "skip", "replace"}
        As for `Vocabulary.fit`.

    Attributes
    ----------
    score : Score
        Of what was read so far.
    """

    def __init__(self, weights: Weights, vocabulary: Vocabulary, unknown: str = "error"):
        self._vocabulary, self._unknown = vocabulary, unknown
        # One stream, as the state goes through all of the text; threads share its columns.
        self._evaluator = Evaluator(weights, SEQ_LENGTH, 1, threads_for(weights))
        self._last = np.empty(0, np.int32)
        self._offset = 0
        self.score = Score(0, 0.0)

    def read(self, piece: str) -> tuple[str, np.ndarray]:
        """Go on reading.

        Returns
        -------
        text : str
            The piece in characters of the model.
        nats : (n,) float array
            The surprise at each of them; that at the first of the text is NaN.
        """
        text, unknown = self._vocabulary.fit(piece, self._unknown)
        codes = self._vocabulary.encode(text, self._offset)
        self._offset += len(piece)
        started = len(self._last)
        codes = np.append(self._last, codes).astype(np.int32)
        if not len(codes):
            return text, np.empty(0)
        nats = self._evaluator.losses(codes[:, None])[:, 0].astype(np.float64)
        self._last = codes[-1:]
        score = self.score
        # One after the other, so that the sum does not depend on the pieces.
        total = np.cumsum(np.append(score.nats, nats))[-1]
        unknown += score.unknown
        self.score = Score(score.characters + len(nats), float(total), unknown)
        return text, nats if started else np.append(np.nan, nats)


def score_lines(
    weights: Weights,
    vocabulary: Vocabulary,
    lines: Iterable[str],
    start: str,
    unknown: str = "error",
) -> Iterator[LineScore]:
    """The score of every line that is not empty, each read as if nothing were before it.

    The model starts as it does for a text without a beginning, by reading `start`; so the first
    character of a line is predicted, and so is the line end, if the model knows one. Many lines
    are read side by side, which does not change their scores.
    """
    threads = available_cores()
    batch = LINES_AT_ONCE * threads
    evaluator = Evaluator(weights, SEQ_LENGTH // 4, batch, threads)
    end = "\n" if "\n" in vocabulary.characters else ""
    begin = vocabulary.encode(start).astype(np.int32)
    waiting: list[tuple[int, str, int, np.ndarray]] = []

    def flush() -> Iterator[LineScore]:
        scores: dict[int, Score] = {}
        by_length = sorted(waiting, key=lambda one: len(one[3]))
        for first in range(0, len(by_length), batch):
            some = by_length[first : first + batch]
            codes = np.zeros((len(some[-1][3]), batch), np.int32)
            for column, (_, _, _, of_line) in enumerate(some):
                codes[: len(of_line), column] = of_line
            evaluator.state[...] = 0.0
            losses = evaluator.losses(codes).astype(np.float64)
            totals = np.cumsum(losses, axis=0)
            for column, (number, _, lacking, of_line) in enumerate(some):
                count = len(of_line) - 1
                nats = float(totals[count - 1, column]) if count else 0.0
                scores[number] = Score(count, nats, lacking)
        yield from (LineScore(number, scores[number], text) for number, text, _, _ in waiting)
        waiting.clear()

    for number, line in enumerate(lines, 1):
        if line:
            text, lacking = vocabulary.fit(line, unknown)
            try:
                codes = vocabulary.encode(text + end)
            except FastrnnError as error:
                raise FastrnnError(f"in line {number}, {error}") from error
            if len(text) > LONG:
                yield from flush()
                reader = Reader(weights, vocabulary)
                reader.read(start)
                reader.read(text + end)
                yield LineScore(number, replace(reader.score, unknown=lacking), line)
                continue
            waiting.append((number, line, lacking, np.append(begin, codes).astype(np.int32)))
            if len(waiting) == LINES_SORTED * batch:
                yield from flush()
    yield from flush()


def most_surprising(lines: Iterable[LineScore], count: int | None = None) -> list[LineScore]:
    """The lines in the order of bits per character, the highest first; at most `count` of them,
    and no more are in memory."""

    def key(one: LineScore) -> tuple[float, int]:
        return -one.score.nats_per_character if one.score.characters else math.inf, one.line

    return sorted(lines, key=key) if count is None else heapq.nsmallest(count, lines, key=key)


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, without their ends: those of bytes may have
    ``\\r\\n``, as nothing of them is changed."""
    begun: list[str] = []
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun).removesuffix("\r")
            yield from (line.removesuffix("\r") for line in others[:-1])
            begun = [others[-1]]
    if last := "".join(begun).removesuffix("\r"):
        yield last


def threads_for(weights: Weights) -> int:
    """How many threads have enough to do in a chunk of one stream."""
    work = SEQ_LENGTH * weights.layout.size
    return max(1, min(available_cores(), work // ENOUGH))
