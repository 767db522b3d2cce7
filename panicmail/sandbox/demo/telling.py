"""How the story is told: painted with a running clock on a terminal, in plain lines elsewhere.

Plain is for pipes, for terminals that can do little (TERM=dumb) and for people who said NO_COLOR. Both say the same.
Whatever is told is made harmless first: a sender's control characters never reach the terminal, and nothing a sender
wrote is read as markup.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

#: Columns; wider is hard to read.
_WIDTH = 96
#: How often plain lines tell the clock, in parts of the SLA.
_QUARTERS = 4

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened, `at` seconds after the 250."""

    at: float
    what: str


class Telling(Protocol):
    """Somebody who tells the story."""

    def title(self, title: str, text: str) -> None: ...
    def facts(self, fields: Fields) -> None: ...
    def context(self, text: str) -> None:
        """What somebody does next, outside of panicmail."""

    def happened(self, at: float, what: str) -> None: ...
    def card(self, heading: str, fields: Fields, text: str, lines: int | None = None) -> None:
        """A mail or an issue as its reader sees it; of a long text only so many lines."""

    def issue(self, heading: str, fields: Fields, markdown: str) -> None: ...
    def line(self, text: str, *, strong: bool = False) -> None:
        """One line as it is, never wrapped: something to copy, or news while somebody plays."""

    def start_clock(self, seconds: Callable[[], float], sla: float) -> None: ...
    def tick(self) -> None:
        """Show the clock anew."""

    def stop_clock(self) -> None: ...
    def table(self, title: str, moments: Sequence[Moment]) -> None: ...
    def done(self, sentence: str) -> None: ...
    def failed(self, sentence: str, details: Sequence[str] = ()) -> None:
        """The story ends here, and why."""


def teller(out: TextIO, environ: Mapping[str, str] = os.environ) -> Telling:
    """Who tells the story on `out`."""
    painted = out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
    return Painted(out) if painted else PlainOutput(out)


def harmless(text: str) -> str:
    """`text` without what a terminal would obey; line ends stay."""
    return "".join(c if c == "\n" or c.isprintable() else " " for c in text)


def _beginning(text: str, lines: int | None) -> list[str]:
    """The first lines of a text, and a sign that there are more."""
    all_lines = harmless(text.strip()).splitlines()
    kept = all_lines if lines is None else all_lines[:lines]
    return [*kept, "…"] if len(kept) < len(all_lines) else kept


class PlainOutput:
    """Plain lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._seconds: Callable[[], float] | None = None
        self._sla = 0.0
        self._told_quarters = 0

    def title(self, title: str, text: str) -> None:
        self._say(f"{title}: {text}")

    def facts(self, fields: Fields) -> None:
        for name, value in fields:
            self._say(f"  {name:12} {harmless(value)}")

    def context(self, text: str) -> None:
        self._say(f"\n{text}")

    def happened(self, at: float, what: str) -> None:
        self._say(f"{at:6.1f} s  {harmless(what)}")

    def card(self, heading: str, fields: Fields, text: str, lines: int | None = None) -> None:
        self._say(f"          {heading}")
        for line in [*(f"{name}: {harmless(value)}" for name, value in fields), "", *_beginning(text, lines)]:
            self._say(f"          | {line}".rstrip())

    def issue(self, heading: str, fields: Fields, markdown: str) -> None:
        self.card(heading, fields, markdown)

    def line(self, text: str, *, strong: bool = False) -> None:
        self._say(harmless(text))

    def start_clock(self, seconds: Callable[[], float], sla: float) -> None:
        self._seconds, self._sla, self._told_quarters = seconds, sla, 0

    def tick(self) -> None:
        if self._seconds is None:
            return
        now = self._seconds()
        quarters = int(now / self._sla * _QUARTERS)
        if quarters > self._told_quarters:
            self._told_quarters = quarters
            self._say(f"{now:6.1f} s  … the clock runs: {now:.0f} of {self._sla:.0f} s, nobody has it")

    def stop_clock(self) -> None:
        self._seconds = None

    def table(self, title: str, moments: Sequence[Moment]) -> None:
        self._say(f"\n{title}")
        for moment in moments:
            self._say(f"{moment.at:8.1f}  {harmless(moment.what)}")

    def done(self, sentence: str) -> None:
        self._say(f"\n{harmless(sentence)}")

    def failed(self, sentence: str, details: Sequence[str] = ()) -> None:
        self._say(f"\n{harmless(sentence)}")
        for line in details:
            self._say(f"  {harmless(line)}")

    def _say(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()


class Painted:
    """Colours, boxes, and a clock at the foot that runs."""

    def __init__(self, out: TextIO) -> None:
        console = Console(file=out, highlight=False, markup=False, emoji=False)
        console.width = min(console.width, _WIDTH)
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._seconds: Callable[[], float] | None = None
        self._sla = 0.0

    def title(self, title: str, text: str) -> None:
        self._console.print(Rule(Text(title, style="bold red"), style="red"))
        self._console.print(Text(text, style="italic", justify="center"))
        self._console.print()

    def facts(self, fields: Fields) -> None:
        grid = Table.grid(padding=(0, 2))
        for name, value in fields:
            grid.add_row(Text(name, style="bold"), Text(harmless(value)))
        self._console.print(Padding(grid, (0, 2)))

    def context(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold yellow"))

    def happened(self, at: float, what: str) -> None:
        line = Text(f"{at:6.1f} s  ", style="cyan")
        line.append(harmless(what), style="bold default")
        self._console.print(line)

    def card(self, heading: str, fields: Fields, text: str, lines: int | None = None) -> None:
        body = Text("\n".join(_beginning(text, lines)))
        body.highlight_regex(r"(?m)^\|( .*)?$", "magenta")
        self._panel(heading, fields, body)

    def issue(self, heading: str, fields: Fields, markdown: str) -> None:
        self._panel(heading, fields, Markdown(harmless(markdown), hyperlinks=False))

    def _panel(self, heading: str, fields: Fields, body: RenderableType) -> None:
        grid = Table.grid(padding=(0, 2))
        for name, value in fields:
            grid.add_row(Text(name, style="dim"), Text(harmless(value), style="bold"))
        panel = Panel(Group(grid, Text(), body), title=Text(harmless(heading)), title_align="left", border_style="dim")
        self._console.print(Padding(panel, (0, 0, 0, 10)))

    def line(self, text: str, *, strong: bool = False) -> None:
        self._console.print(Text(harmless(text), style="bold" if strong else ""), soft_wrap=True)

    def start_clock(self, seconds: Callable[[], float], sla: float) -> None:
        self._seconds, self._sla = seconds, sla
        self._live.start()
        self.tick()

    def tick(self) -> None:
        if self._seconds is not None:
            self._live.update(self._clock(self._seconds()), refresh=True)

    def _clock(self, now: float) -> Table:
        broken = now >= self._sla
        style = "bold red" if broken else "bold green" if now < self._sla / 2 else "bold yellow"
        grid = Table.grid(padding=(0, 1))
        said = "nobody has it, and the time is over" if broken else "nobody has it"
        bar = ProgressBar(total=self._sla, completed=min(now, self._sla), width=40, complete_style=style)
        grid.add_row(Text(f"{now:6.1f} s", style=style), bar, Text(f"of {self._sla:.0f} s: {said}", style=style))
        return grid

    def stop_clock(self) -> None:
        self._seconds = None
        self._live.stop()

    def table(self, title: str, moments: Sequence[Moment]) -> None:
        table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False, border_style="dim")
        for moment in moments:
            table.add_row(Text(f"{moment.at:.1f}", style="cyan", justify="right"), Text(harmless(moment.what)))
        self._console.print()
        self._console.print(table)

    def done(self, sentence: str) -> None:
        self._console.print()
        self._console.print(Text(harmless(sentence), style="bold green"))

    def failed(self, sentence: str, details: Sequence[str] = ()) -> None:
        self.stop_clock()
        self._console.print()
        self._console.print(Text(harmless(sentence), style="bold red"))
        for line in details:
            self._console.print(Text(f"  {harmless(line)}", style="dim"))
