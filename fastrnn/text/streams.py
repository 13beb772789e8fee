"""From codes to B parallel streams, read in chunks of T characters."""

from __future__ import annotations

import numpy as np

from fastrnn.errors import FastrnnError
from fastrnn.text.encoded import file_of


def chunks_per_epoch(length: int, batch: int, seq_length: int) -> int:
    """Chunks, and so updates, in one pass over a text of `length` characters."""
    # The last character of a stream is only ever a target.
    return (length // batch - 1) // seq_length


def held_out(length: int, val_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Where the training part of a text ends, and where its validation part does; the rest is for
    the test."""
    return int(length * (1.0 - val_fraction - test_fraction)), int(length * (1.0 - test_fraction))


class Streams:
    """The text cut into B equal contiguous streams, read chunk by chunk.

    A chunk is T characters of every stream, each of which predicts the next one. What does not fill
    the streams or their last chunk, at the end, is dropped.

    Parameters
    ----------
    codes
        The codes of a text, which may be memory-mapped: only what is read is touched, and does not
        stay in memory.
    batch
        B, the number of streams.
    seq_length
        T, the number of characters in a chunk of one stream.
    characters
        K, the size of the vocabulary.
    translation
        What stands for each code in another vocabulary, int32; by default codes stay as they are.

    Attributes
    ----------
    chunks : int
        Chunks, and so updates, in an epoch.

    Raises
    ------
    FastrnnError
        If the text is too short for one chunk.
    """

    def __init__(
        self,
        codes: np.ndarray,
        batch: int,
        seq_length: int,
        characters: int,
        translation: np.ndarray | None = None,
    ) -> None:
        self.chunks = chunks_per_epoch(len(codes), batch, seq_length)
        if self.chunks < 1:
            raise FastrnnError(
                f"the text has {len(codes)} characters, but batch {batch} and sequence length "
                f"{seq_length} need at least {batch * (seq_length + 1)}; give a longer text, or a "
                "smaller batch or sequence length"
            )
        self.seq_length = seq_length
        length = len(codes) // batch
        self._streams = codes[: batch * length].reshape(batch, length)
        self._characters = characters
        self._translation = translation
        self._file = file_of(codes)

    def read(self, first: int, count: int) -> np.ndarray:
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
        start, length = first * T, count * T + 1
        if self._file is None:
            rows = self._streams[:, start : start + length]
        else:
            B, stream = self._streams.shape
            rows = np.stack([self._file.read(b * stream + start, length) for b in range(B)])
        read = np.ascontiguousarray(rows.T, dtype=np.int32)
        if read.view(np.uint32).max() >= self._characters:  # or negative
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
