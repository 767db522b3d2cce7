"""`python -m panicmail`."""

from panicmail.cli import main

main()
