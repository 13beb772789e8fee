"""Rows as a table, as JSON and as CSV."""

import json

from fastrnn.report.rows import Rows


def test_a_row_in_every_format() -> None:
    values = 12_345, float("nan"), 0.5, 'a"b\n'
    columns = "count", "nothing", "a_long_name_of_a_half", "text"
    table, as_json, as_csv = (Rows(form, *columns) for form in ("table", "json", "csv"))
    assert table.header() == "       count       nothing  a long name of a half  text"
    assert table.row(*values) == '      12,345           nan                 0.5000  a"b\\n'
    assert as_json.header() is None
    row = dict(zip(columns, (12_345, None, 0.5, 'a"b\n'), strict=True))
    assert json.loads(as_json.row(*values)) == row
    assert as_csv.header() == "count,nothing,a_long_name_of_a_half,text"
    assert as_csv.row(*values) == '12345,,0.5,"a""b\n"'
