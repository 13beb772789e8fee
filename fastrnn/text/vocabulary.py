"""The characters of a text and their integer codes."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastrnn import checks
from fastrnn.errors import FastrnnError

UNKNOWN = ("error", "skip", "replace")

TYPED = {"'": "‘’‚‛", '"': "“”„‟", "-": "‐‑‒–—―−", "*": "•", " ": "\t"}
# What people type for characters that Unicode does not decompose into plain ones.
INSTEAD = {other: typed for typed, others in TYPED.items() for other in others}


@dataclass(frozen=True)
class Vocabulary:
    """The K distinct characters of a text; the code of a character is its place among them.

    Parameters
    ----------
    characters
        The characters, sorted by code point, each once.
    """

    characters: str

    def __post_init__(self) -> None:
        checks.text("characters", self.characters)
        if list(self.characters) != sorted(set(self.characters)):
            raise FastrnnError("the characters of a vocabulary must be sorted and distinct")

    def __len__(self) -> int:
        return len(self.characters)

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """The vocabulary of all characters that occur in `text`."""
        return cls.from_pieces([checks.text("the text", text)])

    @classmethod
    def from_pieces(cls, pieces: Iterable[str]) -> Vocabulary:
        """The vocabulary of all characters that occur in the pieces of a text."""
        present = np.zeros(sys.maxunicode + 1, bool)
        for piece in pieces:
            for points in _code_points(piece):
                present[points] = True
        return cls(_text(np.flatnonzero(present)))

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds K - 1, little-endian."""
        return np.min_scalar_type(max(len(self) - 1, 0)).newbyteorder("<")

    def fit(self, text: str, unknown: str = "error") -> tuple[str, int]:
        """A text in the characters of this vocabulary, and how many of it are not among them.

        Parameters
        ----------
        text : str
        unknown : {"error", "skip", "replace"}
            Whether those stay, for `encode` to refuse; are left out; or are replaced: by what is
            typed instead, by the letter without accent or of the other case, else by the
            replacement character, a question mark or a space, whichever there is.
        """
        if checks.choice("unknown", unknown, UNKNOWN) == "error":
            return text, 0
        lacking = set(text).difference(self.characters)
        if not lacking:
            return text, 0
        instead = {ord(c): self._substitute(c) if unknown == "replace" else None for c in lacking}
        return text.translate(instead), sum(map(text.count, lacking))

    def _substitute(self, character: str) -> str:
        plain = unicodedata.normalize("NFKD", character)[0]
        candidates = INSTEAD.get(character, plain), plain, plain.swapcase(), "\ufffd", "?", " "
        known = (one for one in candidates if len(one) == 1 and one in self.characters)
        return next(known, self.characters[0])

    def encode(self, text: str, offset: int = 0) -> np.ndarray:
        """The code of every character, of type `dtype`.

        Parameters
        ----------
        text : str
        offset : int
            Where it begins in the text that a message tells a position of.

        Raises
        ------
        FastrnnError
            If a character is not in the vocabulary.
        """
        text = checks.text("the text", text)
        codes = np.empty(len(text), self.dtype)
        end = 0
        for points in _code_points(text):
            found = self._table.take(points)
            start, end = end, end + len(found)
            codes[start:end] = found
            if found.min() < 0:
                position = start + int(np.argmin(found >= 0))
                character = text[position]
                size = checks.counted(len(self), "character")
                raise FastrnnError(
                    f"the character {character!r} (U+{ord(character):04X}) at position "
                    f"{offset + position}, counted from 0, is not among the {size} of the "
                    "vocabulary; leave it out, or train on a text that has it"
                )
        return codes

    def decode(self, codes: np.ndarray | Sequence[int]) -> str:
        """The text that `codes` stand for.

        Raises
        ------
        FastrnnError
            If one is no whole number from 0 to K - 1.
        """
        array = np.asarray(codes)
        whole = array.dtype.kind in "iu"
        if array.size and not (whole and array.min() >= 0 and array.max() < len(self)):
            raise FastrnnError(f"codes must be whole numbers from 0 to {len(self) - 1}")
        return _text(self._points()[array.astype(np.intp)])

    @cached_property
    def _table(self) -> np.ndarray:
        """The code of every code point, -1 for those of no character."""
        table = np.full(sys.maxunicode + 1, -1, np.int32)
        table[self._points()] = np.arange(len(self))
        return table

    def _points(self) -> np.ndarray:
        return np.fromiter(map(ord, self.characters), np.uint32)


def _code_points(text: str, piece: int = 1 << 16) -> Iterator[np.ndarray]:
    """The code points of `text`, in pieces because an array of all would need much memory."""
    # Strict UTF-32 has no lone surrogates, but a command line's argument may contain some.
    for start in range(0, len(text), piece):
        utf32 = text[start : start + piece].encode("utf-32-le", "surrogatepass")
        yield np.frombuffer(utf32, "<u4")


def _text(points: np.ndarray) -> str:
    return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
