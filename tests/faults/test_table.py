"""The table of the fault matrix tells of every row, and of nothing else."""

from __future__ import annotations

import pytest

from tests.faults import table


def test_every_row_of_the_matrix_has_a_test_or_a_reason() -> None:
    told = {row.number for row in table.rows()} | {number for number, _, _ in table.NOT_HERE}
    assert set(table.ROWS) <= told, f"nothing is said of {sorted(set(table.ROWS) - told)}"


def test_the_readme_names_every_fault_with_what_is_expected_and_the_tests_that_show_it() -> None:
    readme = table.in_readme(table.README.read_text("utf-8"))
    now = table.table({})
    assert table.without_outcomes(readme.splitlines()) == table.without_outcomes(now.splitlines()), "run: make matrix"


def test_a_row_is_as_good_as_its_worst_test() -> None:
    row = table.Row(4, "a fault", "it holds", ("test_a.py::test_one", "test_a.py::test_two"))
    passed, known = ("passed", ""), ("expected to fail", "nobody wrote it")
    assert table._outcome(row, {"tests/faults/test_a.py::test_one[1]": passed}) == "holds"
    both = {"tests/faults/test_a.py::test_one[1]": passed, "tests/faults/test_a.py::test_two[x]": known}
    assert table._outcome(row, both) == "does not hold yet: nobody wrote it"
    assert table._outcome(row, {"tests/test_a.py::test_other": passed}) == "not run"


@pytest.mark.parametrize("row", table.rows(), ids=lambda row: f"{row.number} {row.fault}")
def test_what_a_row_says_fits_a_cell(row: table.Row) -> None:
    for text in (row.fault, row.expected):
        assert 0 < len(text) <= 80
        assert "|" not in text
