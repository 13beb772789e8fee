"""Arguments as users give them: what is good comes back as one plain type, the rest is refused.

NumPy's numbers are numbers here as everywhere; a bool is none.
"""

from __future__ import annotations

import io
import math
import numbers
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from fastrnn.errors import FastrnnError

Kind = TypeVar("Kind")

LONGEST_NAME = 255  # bytes of a file's name on the usual systems


def shortened(text: str, most: int = 80) -> str:
    """A text of any length for a message: its start and its end."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[3 - most // 2 :]}"


def shown_value(value: object) -> str:
    """A value for a message, which stays short and one line whatever it is."""
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else os.fsdecode(value)
        return repr(shortened(text))
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print the longest
        return f"a number of about {value.bit_length() * math.log10(2):.0f} digits"
    if value is None or isinstance(value, numbers.Number):
        return shortened(repr(value))
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"of type {type(value).__name__}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words in a sentence: "a, b and c"."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def counted(count: int, noun: str) -> str:
    """How many of something: "1 hidden unit", "2,000 smooth losses"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def refuse(name: str, value: object, wanted: str) -> NoReturn:
    """Raise the FastrnnError of a wrong argument."""
    raise FastrnnError(f"{name} is {shown_value(value)}, but must be {wanted}")


def whole(name: str, value: object, lowest: int = 0, highest: int | None = None) -> int:
    """A whole number from `lowest` to `highest`."""
    if not isinstance(value, bool) and isinstance(value, numbers.Integral):
        number = int(value)
        if lowest <= number and (highest is None or number <= highest):
            return number
    end = "on" if highest is None else f"to {highest}"
    refuse(name, value, f"a whole number from {lowest} {end}")


def real(
    name: str, value: object, zero: bool = False, infinity: bool = False, below: float = math.inf
) -> float:
    """A positive number; or `zero`, or `infinity`, where they are allowed; or only `below` one."""
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:
            number = math.nan
        high = infinity and number == math.inf
        if (number > 0 or (zero and number == 0)) and (number < below or high):
            return number
    end = f" below {below:g}" if below < math.inf else ""
    refuse(name, value, ("zero or " if zero else "") + "a positive number" + end)


def choice(name: str, value: object, names: Sequence[str]) -> str:
    """One of several names."""
    if not isinstance(value, str) or value not in names:
        refuse(name, value, listed(names, "or"))
    return str(value)


@dataclass(frozen=True)
class Whole:
    """Bounds of a setting that is a whole number, as for `whole`."""

    lowest: int
    highest: int


@dataclass(frozen=True)
class Real:
    """Bounds of a setting that is a number, as for `real`."""

    zero: bool = False
    infinity: bool = False
    below: float = math.inf


Bounds = Whole | Real | tuple[str, ...] | type[bool]
"""Of a setting: those of a number, or the names there are; or it is True or False."""


def setting(name: str, value: object, bounds: Bounds) -> Any:
    """A setting within its bounds."""
    if isinstance(bounds, Whole):
        return whole(name, value, bounds.lowest, bounds.highest)
    if isinstance(bounds, Real):
        return real(name, value, bounds.zero, bounds.infinity, bounds.below)
    if isinstance(bounds, tuple):
        return choice(name, value, bounds)
    if not isinstance(value, bool):
        refuse(name, value, "True or False")
    return value


def text(name: str, value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        refuse(name, value, "a str")
    return str(value)


def instance(name: str, value: object, kind: type[Kind], source: str = "") -> Kind:
    """An object of a class; `source` says what makes one."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        refuse(name, value, f"{article} {kind.__name__}" + (f", from {source}" if source else ""))
    return value


def path(name: str, value: Any) -> str:
    """A path, from a str, bytes, or an object that stands for one."""
    try:
        decoded = os.fsdecode(value)
    except (TypeError, UnicodeError):
        refuse(name, value, "a path")
    if "\0" in decoded:
        refuse(name, value, "a path, and those have no NUL")
    return decoded


def sources(value: Any) -> list[str | os.PathLike[str]]:
    """What a corpus is read from: one path, or several."""
    wanted = "a path or a sequence of paths"
    if isinstance(value, (str, bytes, os.PathLike)):
        value = [value]
    elif not isinstance(value, Iterable) or isinstance(value, io.IOBase):
        refuse("sources", value, wanted)
    return [_source(one) for one in value]


def _source(value: Any) -> str | os.PathLike[str]:
    decoded = path("a source", value)
    looks_like_text = "\n" in decoded or len(decoded) > LONGEST_NAME
    if looks_like_text and not os.path.exists(decoded):
        raise FastrnnError(
            f"there is no file or folder {shown_value(decoded)}; if that is the text itself, "
            "fastrnn.corpus_from_text makes a corpus of it"
        )
    return decoded if isinstance(value, bytes) else value
