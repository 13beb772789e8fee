"""From codes to B parallel streams, read in chunks of T characters."""

from __future__ import annotations

import numpy as np

from fastrnn.errors import FastrnnError


def chunks_per_epoch(length: int, batch: int, seq_length: int) -> int:
    """Chunks, and so updates, in one pass over a text of `length` characters."""
    # The last character of a stream is only ever a target.
    return (length // batch - 1) // seq_length


class Streams:
    """The text cut into B equal contiguous streams, read chunk by chunk.

    A chunk is T characters of every stream, each of which predicts the next one. What does not fill
    the streams or their last chunk, at the end, is dropped.

    Parameters
    ----------
    codes
        The codes of a text, which may be memory-mapped: only what is read is touched.
    batch
        B, the number of streams.
    seq_length
        T, the number of characters in a chunk of one stream.

    Attributes
    ----------
    chunks : int
        Chunks, and so updates, in an epoch.

    Raises
    ------
    FastrnnError
        If the text is too short for one chunk.
    """

    def __init__(self, codes: np.ndarray, batch: int, seq_length: int) -> None:
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

    def read(self, first: int, count: int) -> np.ndarray:
        """The characters of chunks `first` to `first + count - 1`.

        Returns
        -------
        numpy.ndarray
            int32, shape (count·T + 1, B): row t holds the t-th character of every stream. Chunk i
            of them covers the rows i·T to (i + 1)·T: T inputs and, one row later, their T targets.
        """
        assert 0 <= first <= first + count <= self.chunks
        T = self.seq_length
        rows = self._streams[:, first * T : (first + count) * T + 1]
        return np.ascontiguousarray(rows.T, dtype=np.int32)
