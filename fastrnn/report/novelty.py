"""Is what a model writes its own, or copied from the text that it was trained on?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fastrnn.checks import counted, shortened
from fastrnn.errors import FastrnnError
from fastrnn.scoring import lines_of
from fastrnn.text.corpus import Corpus
from fastrnn.text.vocabulary import Vocabulary

LONGEST = 50  # characters of the substrings that are counted
SHOWN = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
AT_ONCE = 1 << 20  # characters of the text that are looked through at a time
WORD = re.compile(r"\w+(?:['’]\w+)*")

# A string is a number, made from that of all but its last character: of few characters one below
# TABLE, and looked up; of more a hash, in powers of Knuth's multiplier of MMIX, modulo 2^64. Two
# strings in one of a hundred million samples have the same.
TABLE = 1 << 25
MULTIPLIER = 6364136223846793005
FILTER_BITS = 20


@dataclass(frozen=True)
class Copied:
    """The longest passage of a sample that the text has.

    Attributes
    ----------
    text : str
    line : int
        Where it begins in the text, counted from 1; the first place if there are several.
    offset : int
        The same in characters from 0.
    offset_in_sample : int
    """

    text: str
    line: int
    offset: int
    offset_in_sample: int


@dataclass(frozen=True)
class Novelty:
    """What a sample has from a text.

    Attributes
    ----------
    characters : int
        Of the sample.
    shares : tuple of float
        Of its substrings of 1, 2, ... characters, the share that occurs in the text.
    longest : Copied
    words : int
        Of the sample.
    known_words : float
        The share of them that the text has; NaN without words.
    new_words : tuple of str
        Those it does not have, in their order.
    """

    characters: int
    shares: tuple[float, ...]
    longest: Copied
    words: int
    known_words: float
    new_words: tuple[str, ...]


@dataclass(frozen=True)
class ItemNovelty:
    """What a model's lines are.

    Attributes
    ----------
    items : int
    valid : float or None
        The share that the regular expression matches, if there is one.
    unique : float
        The number of different ones, as a share of all.
    novel : float
        The share of these that the text does not have as a line.
    """

    items: int
    valid: float | None
    unique: float
    novel: float


def novelty(sample: str, corpus: Corpus) -> Novelty:
    """Compare a sample with the text that its model was trained on.

    Parameters
    ----------
    sample : str
    corpus : Corpus

    Raises
    ------
    FastrnnError
        If the sample is empty.
    """
    if not sample:
        raise FastrnnError("the sample is empty; write at least one character")
    lengths, place, start = longest_matches(_codes(sample, corpus.vocabulary), corpus.codes)
    shares = []
    for n in range(1, min(LONGEST, len(sample)) + 1):
        shares.append(float((lengths >= n).sum() / (len(sample) - n + 1)))
    passage = sample[start : start + lengths.max()]
    line = 1 + sum(piece.count("\n") for piece in _pieces(corpus, place))
    words = WORD.findall(sample)
    new = set(words).difference(*_words(corpus))
    new_words = [word for word in words if word in new]
    return Novelty(
        len(sample),
        tuple(shares),
        Copied(passage, line, place, start),
        len(words),
        1 - len(new_words) / len(words) if words else float("nan"),
        tuple(dict.fromkeys(new_words)),
    )


def item_novelty(items: Sequence[str], corpus: Corpus, check: str | None = None) -> ItemNovelty:
    """Compare the lines that a model wrote with those of its text.

    Parameters
    ----------
    items : sequence of str
        At least one.
    corpus : Corpus
    check : str, optional
        A regular expression that a valid item matches from its start to its end.

    Raises
    ------
    FastrnnError
        If that is no regular expression.
    """
    valid = None
    if check is not None:
        pattern = compiled(check)
        valid = sum(pattern.fullmatch(item) is not None for item in items) / len(items)
    different = set(items)
    known: set[str] = set()
    for line in corpus_lines(corpus):
        if line in different:
            known.add(line)
    unique = len(different)
    return ItemNovelty(len(items), valid, unique / len(items), 1 - len(known) / unique)


def describe(found: Novelty) -> str:
    """In words."""
    shown = [n for n in SHOWN if n <= len(found.shares)]
    copied = found.longest
    lines = [
        f"{counted(found.characters, 'character')} written. Of its substrings the text has",
        "  of characters  " + "".join(f"{n:>8}" for n in shown),
        "  %              " + "".join(f"{100 * found.shares[n - 1]:>8.1f}" for n in shown),
    ]
    if copied.text:
        length = counted(len(copied.text), "character")
        lines += [
            f"Longest passage that the text has: {length}, from line {copied.line:,} on "
            f"(character {copied.offset:,}, counted from 0):",
            f"  {shortened(repr(copied.text), 300)}",
        ]
    if found.words:
        words = counted(found.words, "word")
        lines.append(f"Of its {words} the text has {100 * found.known_words:.1f} %.")
    if found.new_words:
        new = ", ".join(found.new_words[:12])
        more = f" and {len(found.new_words) - 12:,} more" if len(found.new_words) > 12 else ""
        lines.append(f"  Others: {shortened(new, 200)}{more}")
    return "\n".join(lines)


def describe_items(found: ItemNovelty) -> str:
    """In words."""
    lines = [f"{counted(found.items, 'line')} written."]
    if found.valid is not None:
        lines.append(f"  valid    {100 * found.valid:5.1f} %")
    lines.append(f"  unique   {100 * found.unique:5.1f} %  different ones, of all")
    lines.append(f"  novel    {100 * found.novel:5.1f} %  of these are no line of the text")
    return "\n".join(lines)


def compiled(check: str) -> re.Pattern[str]:
    """A regular expression of a user."""
    try:
        return re.compile(check)
    except re.error as error:
        raise FastrnnError(f"check is no regular expression: {error}; correct it") from error


def corpus_lines(corpus: Corpus) -> Iterator[str]:
    """The lines of a corpus."""
    return lines_of(_pieces(corpus, corpus.length))


def _pieces(corpus: Corpus, end: int) -> Iterator[str]:
    """The text of a corpus up to a character."""
    for first in range(0, end, AT_ONCE):
        yield corpus.vocabulary.decode(corpus.codes[first : min(first + AT_ONCE, end)])


def _words(corpus: Corpus) -> Iterator[set[str]]:
    """The words of a corpus, in sets."""
    rest = ""
    for piece in _pieces(corpus, corpus.length):
        # The last word may go on in the next piece.
        text = rest + piece
        cut = max(text.rfind(" "), text.rfind("\n")) + 1
        rest = text[cut:]
        yield set(WORD.findall(text[:cut]))
    yield set(WORD.findall(rest))


def _codes(sample: str, vocabulary: Vocabulary) -> np.ndarray:
    """Codes of a sample, where K stands for every character that the text lacks."""
    codes = {character: code for code, character in enumerate(vocabulary.characters)}
    return np.array([codes.get(character, len(codes)) for character in sample], np.int64)


def longest_matches(sample: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, int, int]:
    """For each place of the sample, how many characters from there on occur in the text; and where
    the longest of these passages begins, in the text and in the sample.

    Only where n - 1 characters agree can n: with every n there are fewer places in the text to look
    at, and after a dozen hardly any.
    """
    lengths = np.zeros(len(sample), np.int64)
    longest, place, start = 0, 0, 0
    different = 1 + int(max(sample.max(), text.max()))
    for first in range(0, len(text), AT_ONCE):
        there = np.arange(first, min(first + AT_ONCE, len(text)))
        here = np.arange(len(sample))
        hash_there, hash_here = np.zeros(len(there), np.uint64), np.zeros(len(here), np.uint64)
        n = 0
        while True:
            in_text, in_sample = there + n < len(text), here + n < len(sample)
            there, hash_there = there[in_text], hash_there[in_text]
            here, hash_here = here[in_sample], hash_here[in_sample]
            most = different ** (n + 1)
            factor = different if most <= TABLE else MULTIPLIER
            hash_there = _extended(hash_there, text[there + n], factor)
            hash_here = _extended(hash_here, sample[here + n], factor)
            in_text, in_sample = _common(hash_there, hash_here, most)
            there, hash_there = there[in_text], hash_there[in_text]
            here, hash_here = here[in_sample], hash_here[in_sample]
            if not len(here):
                break
            n += 1
            lengths[here] = np.maximum(lengths[here], n)
            if n > longest:
                longest, start = n, int(here[0])
                place = int(there[np.argmax(hash_there == hash_here[0])])
    return lengths, place, start


def _extended(numbers: np.ndarray, codes: np.ndarray, factor: int) -> np.ndarray:
    """The numbers of strings that are one character longer."""
    return numbers * np.uint64(factor) + codes.astype(np.uint64)


def _common(many: np.ndarray, few: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in each array the numbers are that are in both; of `most` that there can be."""
    if most <= TABLE:
        tables = np.zeros((2, most), bool)
        for table, numbers in zip(tables, (few, many), strict=True):
            table[numbers] = True
        return np.flatnonzero(tables[0][many]), np.flatnonzero(tables[1][few])
    values, place_of_few = np.unique(few, return_inverse=True)
    if not len(values):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    maybe = np.arange(len(many))
    if len(many) > 1 << FILTER_BITS - 6:
        # Most are not, which a table of some of their bits shows faster than a search.
        table = np.zeros(1 << FILTER_BITS, bool)
        shift = np.uint64(64 - FILTER_BITS)
        table[values >> shift] = True
        maybe = np.flatnonzero(table[many >> shift])
    place = np.minimum(np.searchsorted(values, many[maybe]), len(values) - 1)
    equal = values[place] == many[maybe]
    is_common = np.zeros(len(values), bool)
    is_common[place[equal]] = True
    return maybe[equal], np.flatnonzero(is_common[place_of_few])
