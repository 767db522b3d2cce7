"""The fault matrix: what may go wrong around panicmail, a row for each, and a test for each row.

A test says which row it proves, what the fault is and what is expected, in a few words:

    @pytest.mark.row(4, "kill -9 while a page is sent", "sent again with the same Message-ID, one extra copy at most")

`table` makes README.md's table of these marks and of the outcomes, and names the rows that cannot be tried here, with
the reason. Real processes are driven by `tests.program`; where time must pass, `tests.office` moves its clock.
"""
