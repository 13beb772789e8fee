"""Results as lines of text: a table to read, JSON or CSV for other programs."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

FORMATS = ("table", "json", "csv")

WIDTH = 12  # of a column of numbers


class Rows:
    """Turns rows, one after the other, into lines.

    Parameters
    ----------
    form : {"table", "json", "csv"}
        JSON has an object for each row; in it what is not a number is null.
    columns : sequence of str
        Of numbers, but the last, and "file" if it is there.
    """

    def __init__(self, form: str, *columns: str):
        self._form, self._columns = form, columns

    def header(self) -> str | None:
        """The line before the first row, if there is one."""
        names = [name.replace("_", " ") for name in self._columns]
        if self._form == "table":
            return self._table(names)
        return self._csv(self._columns) if self._form == "csv" else None

    def row(self, *values: Any) -> str:
        """The line of a row."""
        if self._form == "table":
            return self._table([_shown(value) for value in values])
        if self._form == "csv":
            return self._csv(values)
        finite = [None if _is_nan(value) else value for value in values]
        return json.dumps(dict(zip(self._columns, finite, strict=True)), ensure_ascii=False)

    def _table(self, cells: list[str]) -> str:
        widths = [max(WIDTH, len(name)) for name in self._columns[:-1]]
        *numbers, last = cells
        return "".join(f"{n:>{width}}  " for n, width in zip(numbers, widths, strict=True)) + last

    def _csv(self, values: Any) -> str:
        line = io.StringIO()
        shown = ("" if _is_nan(one) else one for one in values)
        csv.writer(line, lineterminator="\n").writerow(shown)
        return line.getvalue()[:-1]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()
