"""A trained model writes text, and says how surprised it is by others."""

from __future__ import annotations

import secrets
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np

from fastrnn import checks, memory
from fastrnn.config import Architecture
from fastrnn.errors import FastrnnError
from fastrnn.kernels.writing import Choice
from fastrnn.network import Weights
from fastrnn.parameters import Parameters, describe, parameter_shapes
from fastrnn.scoring import LineScore, Reader, Score, score_lines
from fastrnn.storage import checkpoint as checkpoints
from fastrnn.storage.checkpoint import Checkpoint
from fastrnn.storage.files import AnyPath
from fastrnn.text.sources import normalised
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.threads import Unshared, available_cores, usable_threads
from fastrnn.writing import TEXT_BYTES, Writer

TEXTS_AT_ONCE = 64  # by a thread: so many that its time goes into products, not into memory
# Lines are the items of so many texts in turn: which one has which item is part of the result.
TEXTS_OF_LINES = 64
TRIES = 100  # lines written for each that is wanted, before it is given up; and as many again:
MORE_TRIES = 10_000
ENDLESS = 2**62  # characters


class Model:
    """A trained network with its vocabulary, which may write in any number of threads at once.

    `fastrnn.load` gives the best model of a checkpoint.

    Parameters
    ----------
    architecture : Architecture
        A `Config` is one, too.
    vocabulary : Vocabulary
    parameters : Parameters
        Arrays as `fastrnn.parameters` names them, of a layer of m vanilla units U (m, K), W (m, m),
        V (K, m), b (m,), c (K,), K the size of the vocabulary. They are copied.

    Attributes
    ----------
    architecture, vocabulary
        As given.

    Raises
    ------
    FastrnnError
        If one is missing or has another shape, or if there is too little memory.
    """

    @memory.running_out("the model", "use one of fewer hidden units")
    def __init__(self, architecture: Architecture, vocabulary: Vocabulary, parameters: Parameters):
        self.architecture = checks.instance("architecture", architecture, Architecture)
        self.vocabulary = checks.instance("vocabulary", vocabulary, Vocabulary)
        if not len(vocabulary):
            raise FastrnnError("the vocabulary is empty; a model needs at least one character")
        parameters = _checked(parameters, parameter_shapes(architecture, len(vocabulary)))
        self._weights = Weights(architecture, len(vocabulary))
        self._weights.set_parameters(parameters)

    @property
    def parameters(self) -> Parameters:
        """Copies of the model's own; read-only, as writing to them would change nothing."""
        parameters = self._weights.parameters
        for array in parameters.values():
            array.flags.writeable = False
        return parameters

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, last: bool = False) -> Model:
        """The best model of a checkpoint.

        Parameters
        ----------
        checkpoint : Checkpoint
            From `fastrnn.train` or `fastrnn.load_checkpoint`.
        last : bool
            The model as it was when the training ended, instead of that of the lowest loss.
        """
        made_by = "fastrnn.train or fastrnn.load_checkpoint"
        checkpoint = checks.instance("checkpoint", checkpoint, Checkpoint, made_by)
        model = checkpoint.last if checks.instance("last", last, bool) else checkpoint.best
        return cls(checkpoint.config, Vocabulary(checkpoint.vocabulary), model.parameters)

    def __repr__(self) -> str:
        return f"<fastrnn.Model: {describe(self.architecture, len(self.vocabulary))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: what it was made from."""
        return Model, (self.architecture, self.vocabulary, self.parameters)

    @memory.running_out("the text", "write a shorter one, or use stream")
    def sample(
        self,
        length: int = 1000,
        *,
        seed: int | None = None,
        prime: str = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stop: str | None = None,
        unknown: str = "error",
    ) -> str:
        """Write `length` characters.

        Parameters
        ----------
        length : int
            How many characters, at most if there is a `stop`.
        seed : int, optional
            The same seed gives the same text; without one, each call gives another.
        prime : str
            Text to continue; it is not part of the result. Without it the model starts as after a
            line end, or a space if its text had no lines. As in a corpus, the line ends ``\\r\\n``
            and ``\\r`` become ``\\n``.
        temperature : float
            Below 1 the likelier characters are preferred, above 1 the text is wilder; 0 takes the
            likeliest character each time.
        top_k : int, optional
            Only so many of the likeliest characters are drawn from.
        top_p : float
            Then, only as many of the likeliest as together have this share of the probability.
        stop : str, optional
            The text ends before this one, as soon as the model has written it.
        unknown : {"error", "skip", "replace"}
            What to do with characters of `prime` that the training text did not have:
            see `Vocabulary.fit`.

        Returns
        -------
        str

        Raises
        ------
        FastrnnError
            If `prime` has a character that the training text did not have, or another argument is
            out of its range.
        """
        pieces = self.stream(
            length,
            seed=seed,
            prime=prime,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop,
            unknown=unknown,
        )
        remedy = "write a shorter one, or use stream"
        subject = f"length is {checks.shown_value(length)}"
        memory.require(TEXT_BYTES * int(length), subject, "the text", remedy)
        return "".join(pieces)

    def stream(
        self,
        length: int = 1000,
        *,
        seed: int | None = None,
        prime: str = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stop: str | None = None,
        unknown: str = "error",
    ) -> Iterator[str]:
        """The text of `sample`, piece by piece as it is written; for one thread."""
        length = checks.whole("length", length)
        choice = _choice(temperature, top_k, top_p)
        known = self._known(prime, unknown)
        pieces = self._pieces(known, length, _generators(_seed(seed), 1), choice, _until(stop))
        return Unshared(pieces, "stream of text")

    def samples(
        self,
        count: int,
        length: int = 1000,
        *,
        seed: int | None = None,
        prime: str = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stop: str | None = None,
        unknown: str = "error",
        threads: int | None = None,
    ) -> Iterator[str]:
        """`count` texts, of which the first is that of `sample`; for one thread.

        Some are written side by side, which takes much less time than one after the other. A text
        depends on the seed and its number, and not on how many there are.

        Parameters
        ----------
        count : int
        length, seed, prime, temperature, top_k, top_p, stop, unknown
            As for `sample`.
        threads : int, optional
            How many write; by default one for each available core.

        Yields
        ------
        str
        """
        count, length = checks.whole("count", count), checks.whole("length", length)
        choice, seed = _choice(temperature, top_k, top_p), _seed(seed)
        known = self._known(prime, unknown)
        _until(stop)
        threads = min(_threads(threads), max(count, 1))
        at_once = min(count, threads * TEXTS_AT_ONCE)
        subject = f"length is {checks.shown_value(length)}"
        what = "the text" if at_once == 1 else f"{at_once} texts at a time"
        memory.require(at_once * TEXT_BYTES * length, subject, what, "write shorter ones")

        def texts() -> Generator[str, None, None]:
            start = self._start(known)
            for first in range(0, count, max(at_once, 1)):
                number = min(at_once, count - first)
                generators = _generators(seed, number, first)
                writer = start.copies(number, min(threads, number))
                yield from self._side_by_side(writer, length, generators, choice, stop)

        return Unshared(texts(), "series of texts")

    def lines(
        self,
        count: int,
        *,
        seed: int | None = None,
        prime: str = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        longest: int = 1000,
        novel: Iterable[str] = (),
        unique: bool = False,
        unknown: str = "error",
        threads: int | None = None,
    ) -> Iterator[str]:
        """`count` lines, each an item that does not depend on the others; for one thread.

        Every line is written from the state that the model has after a line end, and nothing
        before it. Empty lines are left out.

        Parameters
        ----------
        count : int
        seed, temperature, top_k, top_p, unknown, threads
            As for `samples`.
        prime : str
            How every line begins; it is part of the result.
        longest : int
            A line ends after so many characters that the model wrote, if not before.
        novel : iterable of str
            Lines to leave out, those of the training text for example.
        unique : bool
            Whether a line that was there before is left out.

        Yields
        ------
        str

        Raises
        ------
        FastrnnError
            If the model knows no line end, or, after the lines that were found, if `novel` and
            `unique` leave nearly nothing.
        """
        count = checks.whole("count", count)
        longest = checks.whole("longest", longest, 1)
        choice, seed = _choice(temperature, top_k, top_p), _seed(seed)
        unique = checks.instance("unique", unique, bool)
        if "\n" not in self.vocabulary.characters:
            raise FastrnnError(
                "the model knows no line end, as its text had none; write a text instead of lines"
            )
        prime = self._fitting(prime, unknown)
        line_end = int(self.vocabulary.encode("\n")[0])
        if "\n" in prime:
            raise FastrnnError("prime has a line end, but a line has none; leave it out")
        known = self.vocabulary.encode("\n" + prime)
        choice = choice._replace(end=line_end, longest=longest)
        threads = min(_threads(threads), TEXTS_OF_LINES)
        left_out = set(novel)

        def lines() -> Generator[str, None, None]:
            writer = self._start(known).copies(TEXTS_OF_LINES, threads)
            found = 0
            tries = TRIES * count + MORE_TRIES
            for written, line in enumerate(self._lines(writer, seed, choice)):
                if found == count:
                    return
                if written == tries:
                    raise FastrnnError(
                        f"only {found:,} of the {tries:,} lines that the model wrote can be taken; "
                        "the others are empty, known or repeated; ask for fewer, or take a higher "
                        "temperature"
                    )
                line = (prime + line).removesuffix("\r")  # of models of bytes
                if line and line not in left_out:
                    found += 1
                    if unique:
                        left_out.add(line)
                    yield line

        return Unshared(lines(), "series of lines")

    def score(self, text: str, *, unknown: str = "error") -> Score:
        """How surprised the model is by a text, which it reads once, from a state of zeros.

        Parameters
        ----------
        text : str
            Line ends become ``\\n`` as in a corpus.
        unknown : {"error", "skip", "replace"}
            What to do with characters that the training text did not have: see `Vocabulary.fit`.

        Returns
        -------
        Score
            Of all characters but the first, which is not predicted.

        Raises
        ------
        FastrnnError
            If a character is unknown, unless it is to be skipped or replaced.
        """
        reader = self.reader(unknown)
        reader.read(self._normalised("text", text))
        return reader.score

    def probabilities(self, text: str, *, unknown: str = "error") -> np.ndarray:
        """The probability of every character of a text, given those before it.

        Parameters
        ----------
        text, unknown
            As for `score`.

        Returns
        -------
        (n,) float64 array
            For each of the n characters of the text, as it is after `Vocabulary.fit`; that of the
            first, which is not predicted, is NaN.
        """
        _, nats = self.reader(unknown).read(self._normalised("text", text))
        return np.exp(-nats)

    def reader(self, unknown: str = "error") -> Reader:
        """What reads a text piece by piece, and scores it."""
        return Reader(self._weights, self.vocabulary, unknown)

    def score_lines(self, lines: Iterable[str], *, unknown: str = "error") -> Iterator[LineScore]:
        """The score of every line that is not empty, as a text of its own: see `lines`."""
        start = self._default_start()
        return score_lines(self._weights, self.vocabulary, lines, start, unknown)

    def _known(self, prime: str, unknown: str) -> np.ndarray:
        """What the model reads before it writes."""
        return self.vocabulary.encode(self._fitting(prime, unknown) or self._default_start())

    def _fitting(self, prime: str, unknown: str) -> str:
        return self.vocabulary.fit(self._normalised("prime", prime), unknown)[0]

    def _normalised(self, name: str, text: str) -> str:
        text = checks.text(name, text)
        return text if "\r" in self.vocabulary.characters else normalised(text)

    def _default_start(self) -> str:
        characters = self.vocabulary.characters
        return next((start for start in "\n " if start in characters), characters[0])

    def _start(self, known: np.ndarray) -> Writer:
        writer = Writer(self._weights)
        writer.read(known)
        return writer

    def _pieces(
        self,
        known: np.ndarray,
        length: int,
        generators: list[np.random.Generator],
        choice: Choice,
        until: _Until,
    ) -> Generator[str, None, None]:
        for codes in self._start(known).pieces(length, generators, choice):
            yield until.add(self.vocabulary.decode(codes[:, 0]))
            if until.reached:
                return
        if until.rest:
            yield until.rest

    def _side_by_side(
        self,
        writer: Writer,
        length: int,
        generators: list[np.random.Generator],
        choice: Choice,
        stop: str | None,
    ) -> list[str]:
        """The texts of a writer; those that have come to their end are no longer written."""
        untils = [_until(stop) for _ in generators]
        texts: list[list[str]] = [[] for _ in generators]
        writing = np.arange(len(texts))
        for codes in writer.pieces(length, generators, choice):
            for number, column in zip(writing, codes.T, strict=True):
                texts[number].append(untils[number].add(self.vocabulary.decode(column)))
            if stop is not None:
                goes_on = np.flatnonzero([not untils[number].reached for number in writing])
                if len(goes_on) < len(writing):
                    writing = writing[goes_on]
                    writer.keep(goes_on)
        return ["".join(text) + until.rest for text, until in zip(texts, untils, strict=True)]

    def _lines(self, writer: Writer, seed: int, choice: Choice) -> Iterator[str]:
        """The lines of all texts of a writer in turn, without end."""
        queues: list[deque[str]] = [deque() for _ in range(writer.texts)]
        begun = [""] * writer.texts
        pieces = writer.pieces(ENDLESS, _generators(seed, writer.texts), choice)
        for queue in cycle(queues):
            while not queue:
                for i, column in enumerate(next(pieces).T):
                    *done, begun[i] = (begun[i] + self.vocabulary.decode(column)).split("\n")
                    queues[i].extend(done)
            yield queue.popleft()


class _Until:
    """A text up to another one, `stop`, of which the start may be held back."""

    def __init__(self, stop: str):
        self._stop = stop
        self.rest = ""
        self.reached = False

    def add(self, piece: str) -> str:
        """What is certain to be before `stop`."""
        text = self.rest + piece
        end = text.find(self._stop) if self._stop else -1
        self.reached = end >= 0
        if not self.reached:
            # The longest end of the text that `stop` may begin with.
            most = range(min(len(self._stop) - 1, len(text)), 0, -1)
            held = next((n for n in most if text.endswith(self._stop[:n])), 0)
            end = len(text) - held
        self.rest = "" if self.reached else text[end:]
        return text[:end]


def _until(stop: str | None) -> _Until:
    if stop is not None and not checks.text("stop", stop):
        raise FastrnnError("stop is empty; give the text to stop before, or leave it out")
    return _Until(stop or "")


def _choice(temperature: float, top_k: int | None, top_p: float) -> Choice:
    temperature = checks.real("temperature", temperature, zero=True)
    top_k = 0 if top_k is None else checks.whole("top_k", top_k, 1)
    top_p = checks.real("top_p", top_p)
    if top_p > 1:
        checks.refuse("top_p", top_p, "a positive number up to 1")
    return Choice(temperature, min(top_k, sys.maxunicode + 1), top_p)


def _seed(seed: int | None) -> int:
    return secrets.randbits(64) if seed is None else checks.whole("seed", seed)


def _generators(seed: int, count: int, first: int = 0) -> list[np.random.Generator]:
    """Of the texts from number `first` on; that of text 0 is `default_rng(seed)`."""
    return [np.random.default_rng([seed, first + i]) for i in range(count)]


def _threads(threads: int | None) -> int:
    return available_cores() if threads is None else usable_threads(threads)


def _checked(parameters: Parameters, shapes: dict[str, tuple[int, ...]]) -> Parameters:
    """The parameters as arrays, which have to be there in these shapes."""
    if not isinstance(parameters, Mapping):
        checks.refuse("parameters", parameters, f"a dictionary of {', '.join(shapes)}")
    arrays = {}
    for name, shape in shapes.items():
        if name not in parameters:
            raise FastrnnError(f"parameters lack {name}; they must be {', '.join(shapes)}")
        arrays[name] = array = np.asarray(parameters[name])
        if array.dtype.kind not in "fiu" or array.shape != shape:
            raise FastrnnError(
                f"{name} is an array of {array.dtype} in the shape {array.shape}, but must be one "
                f"of real numbers in the shape {shape}"
            )
    return arrays


@memory.running_out("the model", "use one of fewer hidden units")
def load(path: AnyPath, last: bool = False) -> Model:
    """The best model of a checkpoint.

    Parameters
    ----------
    path : str or path-like
        A file written by `fastrnn train`.
    last : bool
        The model as it was when the training ended, instead of that of the lowest loss.

    Raises
    ------
    FastrnnError
        If the file is no checkpoint, or a damaged one.
    """
    return Model.from_checkpoint(checkpoints.load(path), last)
