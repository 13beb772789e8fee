"""From codes to B parallel streams, read in chunks of T characters, in one order or another.

Streams    the text from its start to its end
Chunks     sequences from all over the text, in a random order
Items      its lines, each for itself, in a random order
"""

from __future__ import annotations

import numpy as np

from fastrnn.checks import counted
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.text.encoded import file_of

ORDER = 2  # distinguishes the random numbers of the order from those of the samples, which have 1


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
    while 0 < place < len(codes) and codes[place - 1] != separator:
        place += 1
    return place


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

    Attributes
    ----------
    length : int
        Characters.
    """

    def __init__(
        self, codes: np.ndarray, characters: int, translation: np.ndarray | None = None
    ) -> None:
        self.length = len(codes)
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
        read = np.ascontiguousarray(rows, dtype=np.int32)
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
            raise too_short(counted(text.length, "character"), batch, seq_length)
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
            raise too_short(counted(text.length, "character"), batch, seq_length)
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


class Items:
    """Lines of a text, dealt out whole to B streams: a separator, an item, a separator, and so on.

    What two separators in a row mean is in kernels/items.py. In each epoch the items are shuffled;
    what does not fill the streams, at the end, is left out of it.

    Parameters
    ----------
    text, batch, seq_length
        As of `Streams`; the codes are taken into memory.
    separator : int
        The code of the line end. Empty lines are none.
    seed : int, optional
        Of the order, together with the number of the epoch. Without one the items are in the order
        of the text, and none is left out.

    Attributes
    ----------
    count : int
        Items.
    chunks, predictions : int
        As of `Streams`.
    """

    def __init__(
        self,
        text: EncodedText,
        batch: int,
        seq_length: int,
        separator: int,
        seed: int | None = None,
    ) -> None:
        self._codes = text.read(np.zeros(1, np.int64), text.length)[0]
        ends = np.append(np.flatnonzero(self._codes == separator), text.length)
        starts = np.append(0, ends[:-1] + 1)
        filled = starts < ends
        self._starts, self._lengths = starts[filled], (ends - starts)[filled]
        self.count = len(self._starts)
        places = int(self._lengths.sum()) + 2 * self.count  # with the separators
        self.predictions = places - self.count
        self._batch, self._seq_length = batch, seq_length
        self._separator, self._seed = separator, seed
        self._epoch = -1
        self.chunks = (places // batch - 1) // seq_length
        if seed is None:
            self.chunks = 0
            self._streams = self._deal(0)
            self._epoch = 0
            self.chunks = (self._streams.shape[1] - 1) // seq_length
        if self.chunks < 1:
            lines, characters = counted(self.count, "line"), counted(places, "character")
            raise too_short(f"{lines}, of {characters} with their ends", batch, seq_length)

    def read(self, first: int, count: int, epoch: int = 0) -> np.ndarray:
        """As of `Streams`."""
        assert 0 <= first <= first + count <= self.chunks
        if epoch != self._epoch and self._seed is not None:
            self._epoch, self._streams = epoch, self._deal(epoch)
        T = self._seq_length
        return np.ascontiguousarray(self._streams[:, first * T : (first + count) * T + 1].T)

    def _deal(self, epoch: int) -> np.ndarray:
        """The streams of an epoch, each filled up with separators: (B, places)."""
        order = np.arange(self.count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, ORDER, epoch]).permutation(self.count)
        places = self._lengths[order] + 2
        ends = np.cumsum(places)
        total = int(ends[-1]) if self.count else 0
        # All items one after the other, and where each stream begins: with the first item after its
        # share of the places.
        line = np.full(total, self._separator, np.int32)
        inside = np.ones(total, bool)
        inside[ends - 1] = inside[ends - places] = False
        from_start = np.arange(total) - np.repeat(ends - places, places)
        line[inside] = self._codes[
            (np.repeat(self._starts[order], places) + from_start - 1)[inside]
        ]
        first = np.searchsorted(ends - places, np.arange(self._batch) * total / self._batch)
        borders = np.append(ends - places, total)[np.append(first, self.count)]
        longest = int(np.diff(borders).max())
        length = self.chunks * self._seq_length + 1 if self._seed is not None else longest
        streams = np.full((self._batch, length), self._separator, np.int32)
        for stream, begin, end in zip(streams, borders, borders[1:], strict=False):
            part = line[begin : min(end, begin + length)]
            stream[: len(part)] = part
        return streams


Order = Streams | Chunks | Items


def in_order(config: Config, text: EncodedText, separator: int | None = None) -> Order:
    """A text in the order of a training; with a separator, as items."""
    B, T = config.batch, config.seq_length
    if separator is not None:
        return Items(text, B, T, separator, config.seed)
    if config.order == "sequential":
        return Streams(text, B, T)
    return Chunks(text, B, T, config.order == "random", config.seed)


def too_short(size: str, batch: int, seq_length: int) -> FastrnnError:
    """A text that does not fill one update."""
    return FastrnnError(
        f"the text has {size}, but batch {batch} and sequence length {seq_length} need at least "
        f"{batch * (seq_length + 1)}; give a longer text, or a smaller batch or sequence length"
    )
