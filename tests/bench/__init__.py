"""How fast panicmail is: `make bench`. What is measured how stands in README.md; no test asserts a time."""
