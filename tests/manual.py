"""`make man`: deploy/man/panicmail.1, from what the commands say of themselves by --help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from panicmail.cli import cli

PAGE = Path(__file__).parent.parent / "deploy" / "man" / "panicmail.1"
_HEAD = """.TH PANICMAIL 1 "" "" "panicmail"
.SH NAME
panicmail \\- a panic mailbox that owes its reporter a human
.SH SYNOPSIS
.B panicmail
.I COMMAND
.RI [ OPTIONS ]
.SH DESCRIPTION
A mail to the panic address becomes a confidential GitLab issue and pages the security engineer on call, who
acknowledges by replying; else the security manager on call is paged, and again, until somebody answers.
.SH COMMANDS
"""
_TAIL = """.SH EXIT STATUS
.TP
.B 0
done
.TP
.B 1
could not be done; with check, incidents \\-\\-gaps and the like: something is wrong
.TP
.B 2
wrong usage, or a wrong configuration: every mistake is told, a line each
.SH FILES
.TP
.I panicmail.toml, /etc/panicmail/panicmail.toml
The configuration, unless \\-c or the environment names another.
.SH ENVIRONMENT
.TP
.B PANICMAIL_CONFIG
The file of the configuration.
.TP
.B PANICMAIL_<TABLE>__<KEY>
A setting; it wins over the file.
"""


def page() -> str:
    return _HEAD + "".join(_commands("", cli)) + _TAIL


def _commands(above: str, group: click.Group) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        called = f"{above} {name}".strip()
        if isinstance(command, click.Group):
            yield from _commands(called, command)
            continue
        arguments = [p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)]
        yield f".SS {_plain(' '.join([called, *arguments]))}\n{_plain(command.help or '')}\n"
        for option in (p for p in command.params if isinstance(p, click.Option)):
            spelled, told = option.get_help_record(click.Context(command)) or ("", "")
            yield f".TP\n.B {_plain(spelled)}\n{_plain(told)}\n"


def _plain(text: str) -> str:
    """Text as roff shows it: each paragraph a line, and none that begins like a request."""
    paragraphs = (" ".join(each.split()) for each in text.split("\n\n"))
    escaped = "\n.PP\n".join(paragraphs).replace("\\", "\\e").replace("-", "\\-").replace("\b", "")
    return "\n".join(f"\\&{line}" if line[:1] == "'" else line for line in escaped.splitlines())


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
