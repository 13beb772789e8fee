"""From codes to B parallel streams, read in chunks of T characters, in one order or another.

Streams    the text from its start to its end
Chunks     sequences from all over the text, in a random order
Items      its lines, each for itself, in a random order
"""

from __future__ import annotations

import numpy as np

from fastrnn import memory
from fastrnn.checks import counted
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.text.encoded import file_of

ORDER = 2  # distinguishes the random numbers of the order from those of the samples, which have 1
PIECE = 1 << 20  # characters looked through at a time
LINE_BYTES = 7 * 8  # of memory for a line: start, length, end, order, and what finding them takes


def chunks_per_epoch(length: int, batch: int, seq_length: int) -> int:
    """Chunks, and so updates, in one pass over a text of `length` characters."""
    # The last character of a stream is only ever a target.
    return (length // batch - 1) // seq_length


def held_out(length: int, val_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Where the training part of a text ends, and where its validation part does; the rest is for
    the test."""
    return int(length * (1.0 - val_fraction - test_fraction)), int(length * (1.0 - test_fraction))


def next_line(codes: np.ndarray, place: int, separator: int) -> int:
    """Where the first line starts that does not start before this place of a text."""
    if place == 0:
        return 0
    for first in range(place - 1, len(codes), PIECE):
        ends = np.flatnonzero(codes[first : first + PIECE] == separator)
        if len(ends):
            return first + int(ends[0]) + 1
    return len(codes)


class EncodedText:
    """A text as codes in a model's vocabulary, of which any part can be read.

    Parameters
    ----------
    codes
        The codes of a text, which may be memory-mapped: only what is read is touched, and does not
        stay in memory.
    characters
        The size of their vocabulary.
    translation
        What stands for each code in another vocabulary, int32; by default codes stay as they are.
    is_part
        Whether other parts of the text are held out, for messages.

    Attributes
    ----------
    length : int
        Characters.
    is_part : bool
        As given.
    """

    def __init__(
        self,
        codes: np.ndarray,
        characters: int,
        translation: np.ndarray | None = None,
        is_part: bool = False,
    ) -> None:
        self.length = len(codes)
        self.is_part = is_part
        self._codes = codes
        self._characters = characters
        self._translation = translation
        self._file = file_of(codes)

    def read(self, starts: np.ndarray, count: int) -> np.ndarray:
        """The `count` characters from each of these places on.

        Returns
        -------
        numpy.ndarray
            int32, shape (len(starts), count).

        Raises
        ------
        FastrnnError
            If a code is outside the vocabulary; the kernels would use what lies there in memory.
        """
        if self._file is None:
            rows = np.lib.stride_tricks.sliding_window_view(self._codes, count)[starts]
        else:
            rows = np.stack([self._file.read(int(start), count) for start in starts])
        return self._checked(rows)

    def passages(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Passages of different lengths, one after the other: int32, shape (sum(lengths),)."""
        if self._file is None:
            return self._checked(self._codes[_counting(starts, lengths)])
        pairs = zip(starts.tolist(), lengths.tolist(), strict=True)
        return self._checked(np.concatenate([self._file.read(*pair) for pair in pairs]))

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        read = np.ascontiguousarray(codes, dtype=np.int32)
        if read.size and read.view(np.uint32).max() >= self._characters:  # or negative
            text, remedy = "the text", "read it again"
            if self._file is not None:
                text, remedy = (
                    f"the encoded text in {self._file}",
                    "delete that file and start again",
                )
            raise FastrnnError(
                f"{text} is damaged, it has codes that stand for none of its {self._characters} "
                f"characters; {remedy}"
            )
        return read if self._translation is None else self._translation[read]


class Streams:
    """The text cut into B equal contiguous streams, read chunk by chunk.

    A chunk is T characters of every stream, each of which predicts the next one. What does not fill
    the streams or their last chunk, at the end, is dropped.

    Parameters
    ----------
    text : EncodedText
    batch
        B, the number of streams.
    seq_length
        T, the number of characters in a chunk of one stream.

    Attributes
    ----------
    chunks : int
        Chunks, and so updates, in an epoch.
    predictions : int
        Characters that are predicted in an epoch.

    Raises
    ------
    FastrnnError
        If the text is too short for one chunk.
    """

    def __init__(self, text: EncodedText, batch: int, seq_length: int) -> None:
        self.chunks = chunks_per_epoch(text.length, batch, seq_length)
        if self.chunks < 1:
            raise too_short(text, counted(text.length, "character"), batch, seq_length)
        self.seq_length = seq_length
        self.predictions = self.chunks * seq_length * batch
        self._starts = np.arange(batch) * (text.length // batch)
        self._text = text

    def read(self, first: int, count: int, epoch: int = 0) -> np.ndarray:
        """The characters of chunks `first` to `first + count - 1`.

        Returns
        -------
        numpy.ndarray
            int32, shape (count·T + 1, B): row t holds the t-th character of every stream. Chunk i
            of them covers the rows i·T to (i + 1)·T: T inputs and, one row later, their T targets.

        Raises
        ------
        FastrnnError
            If a code is outside the vocabulary; the kernels would use what lies there in memory.
        """
        assert 0 <= first <= first + count <= self.chunks
        T = self.seq_length
        return np.ascontiguousarray(self._text.read(self._starts + first * T, count * T + 1).T)


class Chunks:
    """Sequences of T characters from all over the text, B in every update, in a random order.

    Parameters
    ----------
    text, batch, seq_length
        As of `Streams`.
    overlapping : bool
        Whether they may start anywhere; otherwise the text is cut into them, and each is read once
        in an epoch, but for what does not fill an update.
    seed : int
        Of the order, together with the number of the epoch.

    Attributes
    ----------
    chunks, predictions : int
        As of `Streams`.
    """

    def __init__(
        self, text: EncodedText, batch: int, seq_length: int, overlapping: bool, seed: int
    ) -> None:
        self._pieces = chunks_per_epoch(text.length, 1, seq_length)
        self.chunks = self._pieces // batch
        if self.chunks < 1:
            raise too_short(text, counted(text.length, "character"), batch, seq_length)
        self.predictions = self.chunks * seq_length * batch
        self._text, self._batch, self._seq_length = text, batch, seq_length
        self._overlapping, self._seed = overlapping, seed
        self._epoch = -1

    def read(self, first: int, count: int, epoch: int = 0) -> np.ndarray:
        """The characters of updates `first` to `first + count - 1` of an epoch.

        Returns
        -------
        numpy.ndarray
            int32, shape (count·(T + 1), B): T + 1 rows for each update.
        """
        assert 0 <= first <= first + count <= self.chunks
        T, B = self._seq_length, self._batch
        if epoch != self._epoch:
            self._epoch, self._starts = epoch, self._order(epoch)
        read = self._text.read(self._starts[first * B : (first + count) * B], T + 1)
        by_time = read.reshape(count, B, T + 1).transpose(0, 2, 1)
        return np.ascontiguousarray(by_time).reshape(count * (T + 1), B)

    def _order(self, epoch: int) -> np.ndarray:
        """Where each sequence of an epoch starts in the text."""
        generator = np.random.default_rng([self._seed, ORDER, epoch])
        if self._overlapping:
            places = self._text.length - self._seq_length
            return generator.integers(0, places, self.chunks * self._batch)
        return generator.permutation(self._pieces) * self._seq_length


class Lines:
    """The lines of a text that are not empty.

    Parameters
    ----------
    text : EncodedText
    separator : int
        The code of the line end.
    no_part : int, optional
        A code that is no part of a line where it is the last one: of the ``\\r`` that a text of
        bytes has before its line ends.

    Attributes
    ----------
    starts, lengths : (count,) int64 arrays
        Where each begins in the text, and how long it is.
    length : int
        Of the text.

    Raises
    ------
    FastrnnError
        If their places would take more memory than this process may have.
    """

    def __init__(self, text: EncodedText, separator: int, no_part: int = -1) -> None:
        self.text, self.separator, self.length = text, separator, text.length
        found: list[np.ndarray] = []
        count = 1
        for first in range(0, text.length, PIECE):
            codes = text.read(np.array([first]), min(PIECE, text.length - first))[0]
            found.append(first + np.flatnonzero(codes == separator))
            count += len(found[-1])
            remedy = "leave it out, or train on a part of the text"
            memory.require(LINE_BYTES * count, "lines is True", "the places of the lines", remedy)
        ends = np.concatenate([*found, np.array([text.length])])
        self.starts = np.append(0, ends[:-1] + 1)
        self.lengths = ends - self.starts
        if no_part >= 0:
            filled = np.flatnonzero(self.lengths)
            last = text.passages(ends[filled] - 1, np.ones_like(filled))
            self.lengths[filled] -= last == no_part
        filled = self.lengths > 0
        self.starts, self.lengths = self.starts[filled], self.lengths[filled]


class Items:
    """Lines of a text, dealt out whole to B streams: a separator, an item, a separator, and so on.

    What two separators in a row mean is in kernels/items.py. In each epoch the items are shuffled;
    what does not fill the streams, at the end, is left out of it.

    Parameters
    ----------
    lines : Lines
    batch, seq_length
        As of `Streams`.
    seed : int, optional
        Of the order, together with the number of the epoch. Without one the items are in the order
        of the text, and none is left out.

    Attributes
    ----------
    chunks, predictions : int
        As of `Streams`.
    """

    def __init__(self, lines: Lines, batch: int, seq_length: int, seed: int | None = None) -> None:
        self._lines, self._batch, self._seq_length, self._seed = lines, batch, seq_length, seed
        count = len(lines.starts)
        places = int(lines.lengths.sum()) + 2 * count  # with the separators
        self.predictions = places - count
        self._epoch = -1
        self.chunks = (places // batch - 1) // seq_length
        if seed is None:
            self._deal(0)
            self.chunks = (int(np.diff(self._borders).max()) - 1) // seq_length
        if self.chunks < 1:
            size = f"{counted(count, 'line')}, of {counted(places, 'character')} with their ends"
            raise too_short(lines.text, size, batch, seq_length)

    def read(self, first: int, count: int, epoch: int = 0) -> np.ndarray:
        """As of `Streams`."""
        assert 0 <= first <= first + count <= self.chunks
        if self._epoch != (epoch := 0 if self._seed is None else epoch):
            self._deal(epoch)
        lines, B, rows = self._lines, self._batch, count * self._seq_length + 1
        begin = self._borders[:-1] + first * self._seq_length
        length = np.clip(self._borders[1:] - begin, 0, rows)  # of each stream, without its filling
        which = np.searchsorted(self._ends, begin, "right")
        after = np.searchsorted(self._ends, begin + length, "left") + 1
        number = np.where(length > 0, after - which, 0)
        some, stream = _counting(which, number), np.repeat(np.arange(B), number)
        items = self._order[some]
        # Where the characters of each are in its stream, and of these the ones to read.
        last = self._ends[some] - 1 - begin[stream]
        place = last - lines.lengths[items]
        here, to = (np.clip(one, 0, length[stream]) for one in (place, last))
        streams = np.full(B * rows, lines.separator, np.int32)
        passages = lines.text.passages(lines.starts[items] + here - place, to - here)
        streams[_counting(stream * rows + here, to - here)] = passages
        return np.ascontiguousarray(streams.reshape(B, rows).T)

    def _deal(self, epoch: int) -> None:
        """Find the order of an epoch, where each item ends in it, and where each stream begins."""
        count = len(self._lines.starts)
        self._epoch, self._order = epoch, np.arange(count)
        if self._seed is not None:
            generator = np.random.default_rng([self._seed, ORDER, epoch])
            self._order = generator.permutation(count)
        places = self._lines.lengths[self._order] + 2
        self._ends = np.cumsum(places)
        total = int(self._ends[-1]) if count else 0
        # Each stream begins with the first item after its share of the places.
        starts = self._ends - places
        first = np.searchsorted(starts, np.arange(self._batch) * total / self._batch)
        self._borders = np.append(starts, total)[np.append(first, count)]


Order = Streams | Chunks | Items


def in_order(config: Config, text: EncodedText | Lines) -> Order:
    """A text in the order of a training; its lines as items."""
    B, T = config.batch, config.seq_length
    if isinstance(text, Lines):
        return Items(text, B, T, config.seed)
    if config.order == "sequential":
        return Streams(text, B, T)
    return Chunks(text, B, T, config.order == "random", config.seed)


def too_short(text: EncodedText, size: str, batch: int, seq_length: int) -> FastrnnError:
    """A text that does not fill one update."""
    remedy = "give a longer text, or a smaller batch or sequence length"
    if text.is_part:
        remedy += ", or hold out less of it (val-fraction, test-fraction)"
    return FastrnnError(
        f"{'the part of the text to train on' if text.is_part else 'the text'} has {size}, but "
        f"batch {batch} and sequence length {seq_length} need at least {batch * (seq_length + 1)}; "
        f"{remedy}"
    )


def _counting(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each start, so many as its length says."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
