"""CSV that every reader splits into the rows it was made of."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from searchctl.app.terminal.csv_rows import csv_text

cells = st.text(alphabet=st.sampled_from("ab,;\"'\r\n \t"), max_size=8)


@given(st.lists(st.tuples(cells, cells), max_size=5))
def test_what_is_written_is_read_again(rows: list[tuple[str, str]]) -> None:
    text = csv_text(("one", "two"), rows)
    assert [list(row) for row in (("one", "two"), *rows)] == list(csv.reader(io.StringIO(text, newline="")))


def test_rows_end_in_a_newline_and_nothing_is_an_empty_cell() -> None:
    assert csv_text(("a", "b"), []) == "a,b\n"
    assert csv_text(("a", "b"), [[None, 1.5], ["x\ry", "z\r\n"]]) == 'a,b\n,1.5\n"x\ry","z\r\n"\n'
