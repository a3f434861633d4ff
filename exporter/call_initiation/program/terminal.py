"""What the demonstration shows in a terminal: a live table, a plain line where there is no terminal, and a summary.

All figures come from snapshots by way of `correlation`. Texts from outside are shown as they are: no markup in them
is heeded.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import typer
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from call_initiation.pages.correlation import Cell, Correlation, correlate, ledgers, percent, sentence
from call_initiation.pages.health import feed_health, feed_line
from call_initiation.pages.leads import Lead, leads
from call_initiation.recording.aggregate import View

_CODE_WIDTH: Final = 28  # half of a terminal, at most
_GAP: Final = 2  # between columns
_OTHER_LINES: Final = 15  # of the live picture, besides codes and links
_TOP_STATES: Final = 8
_TOP_CODES: Final = 2
_OFTEN: Final = 0.5
_WIDE: Final = 200  # columns


def console(*, is_wide: bool = False) -> Console:
    """Return a console for stdout that sends codes to a terminal only, whatever the environment says of colours.

    Args:
        is_wide: What no terminal shows is wide, so that no row of a table is broken.
    """
    is_terminal = sys.stdout.isatty()
    return Console(force_terminal=is_terminal, highlight=False, width=_WIDE if is_wide and not is_terminal else None)


def show(report: RenderableType, console: Console) -> None:
    """Print a report without the blanks with which a table fills its lines: it may go into a file, or a ticket."""
    with console.capture() as captured:
        console.print(report)
    typer.echo("\n".join(line.rstrip(" ") for line in captured.get().rstrip("\n").split("\n")))


@dataclass(frozen=True, slots=True)
class Scene:
    """The live picture; it fits itself to the terminal each time that it is drawn.

    Attributes:
        snapshot: Where the figures come from.
        elapsed: How long it has run, seconds.
        lasts: How long it will; None for no end.
        links: What to say below the table, a line each.
    """

    snapshot: Callable[[], View]
    elapsed: Callable[[], float]
    lasts: float | None
    links: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the picture's parts."""
        view, elapsed = self.snapshot(), self.elapsed()
        found = correlate(view)
        yield _title(elapsed, self.lasts)
        if self.lasts is not None:
            yield Padding(ProgressBar(total=self.lasts, completed=min(elapsed, self.lasts)), (0, 1, 0, 0))
        yield _sums(found)
        if health := feed_line(feed_health(view)):
            yield Text(health, "dim")
        if found.total:
            height = (options.height or console.height) - _OTHER_LINES - len(self.links)
            yield _table(found, options.max_width, max(1, height))
        else:
            yield Text("\nCalls begin once the agents' states are known; each shows up once it has settled.\n", "dim")
        yield Text("\n".join(self.links), "dim", overflow="fold")


def line(view: View, elapsed: float) -> str:
    """Return how things stand, as one line."""
    found = correlate(view)
    first = "".join(f"; look first at {lead}" for lead in leads(found)[:1])
    health = feed_line(feed_health(view))
    return f"{clock(elapsed)} {_sums(found).plain}{first}" + (f"; {health}" if health else "")


def summary(view: View, elapsed: float) -> RenderableType:
    """Return what was seen, where to look next, how the feed did, and that nothing was lost; about one screen."""
    found = correlate(view)
    opening = f"Seen in {clock(elapsed)}: {_sums(found).plain}."
    health = feed_line(feed_health(view))
    accounts = "\n".join([*([health] if health else []), *(sentence(*account) for account in ledgers(view).items())])
    parts: list[RenderableType] = [Text(opening, "bold")]
    if found.codes:
        parts.append(_top_codes(found))
    if told := leads(found):
        parts += [Text(""), *_look_at(told)]
    return Group(*parts, Text(f"\n{accounts}"))


def clock(seconds: float) -> str:
    """Return a length of time as mm:ss, or h:mm:ss."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def _title(elapsed: float, lasts: float | None) -> Text:
    end = "Ctrl-C ends it" if lasts is None else f"of {clock(lasts)}; Ctrl-C ends it sooner"
    return Text.assemble(("call-initiation-exporter demo", "bold"), f"  {clock(elapsed)} ", (end, "dim"))


def _sums(found: Correlation) -> Text:
    accepted = found.total - found.total_refused
    return Text.assemble(
        (f"{found.total:,} attempts", "bold"),
        ", ",
        (f"{accepted:,} accepted", "green"),
        ", ",
        (f"{found.total_refused:,} refused ({percent(found.refusal_rate)})", "red"),
    )


def _table(found: Correlation, width: int, height: int) -> Table:
    """Return the table of codes by state; what doesn't fit is added up under `others`."""
    code_width = min(_CODE_WIDTH, width // 2)
    states = list(_fitting(found, width - code_width - 2 * (len("others") + _GAP)))
    others = [state for state in found.attempts if state not in states]
    codes = list(found.codes)[:height]
    marked = {(lead.code, state) for lead in leads(found) for state in lead.states}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("agent state\n(before the send)", width=code_width, no_wrap=True)
    groups = [[state] for state in states] + ([others] if others else [])
    for group in groups:
        table.add_column(_heading(group[0]) if group[0] in states else "others", justify="right", no_wrap=True)
    table.add_column("all", justify="right", no_wrap=True)
    attempts = (sum(found.attempts[state] for state in group) for group in groups)
    table.add_row("attempts", *(f"{count:,}" for count in attempts), f"{found.total:,}")
    rates = [_rate(found, group) for group in groups]
    table.add_row("refused", *map(_shown_rate, rates), _shown_rate(found.refusal_rate), end_section=True)
    for code in codes:
        cells = (_count(found, code, group, marked) for group in groups)
        table.add_row(_tail(code, code_width), *cells, f"{found.codes[code]:,}")
    if more := len(found.codes) - len(codes):
        table.add_row(Text(f"and {more} more", "dim"))
    return table


def _fitting(found: Correlation, width: int) -> Iterator[str]:
    """Yield the states with the most attempts that fit beside each other, in the order of the columns."""
    chosen: list[str] = []
    for state in sorted(found.attempts, key=lambda state: -found.attempts[state]):
        width -= max(map(len, [*state.split("_", 1), "1,000"])) + _GAP
        if width >= 0:
            chosen.append(state)
    yield from (state for state in found.attempts if state in chosen)


def _heading(state: str) -> Text:
    return Text(state.replace("_", "\n", 1))


def _rate(found: Correlation, states: list[str]) -> float:
    return sum(found.refused.get(state, 0) for state in states) / sum(found.attempts[state] for state in states)


def _shown_rate(rate: float) -> Text:
    return Text(percent(rate), "bold red" if rate >= _OFTEN else "")


def _count(found: Correlation, code: str, states: list[str], marked: set[tuple[str, str]]) -> Text:
    pairs = [(code, state) for state in states if (code, state) in found.cells]
    count = sum(found.cells[pair].refusals for pair in pairs)
    return Text(f"{count:,}" if count else "", "" if marked.isdisjoint(pairs) else "bold red")


def _tail(code: str, width: int) -> Text:
    """Shorten a code from its front: its end says the most."""
    return Text(code if len(code) <= width else f"…{code[1 - width :]}")


def _top_codes(found: Correlation) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("agent state")
    table.add_column("attempts", justify="right")
    table.add_column("refused", justify="right")
    table.add_column("top codes", overflow="fold")
    for state in sorted(found.refused, key=lambda state: -found.refused[state])[:_TOP_STATES]:
        codes = _listed(found.of_state(state)[:_TOP_CODES])
        table.add_row(Text(state), f"{found.attempts[state]:,}", percent(found.state_rate(state)), Text(codes))
    return table


def _listed(cells: Iterable[Cell]) -> str:
    return ", ".join(f"{cell.code} {cell.refusals:,}" for cell in cells)


def _look_at(told: list[Lead]) -> Iterator[RenderableType]:
    for place, lead in enumerate(told):
        yield Text.assemble("Then at " if place else "Look first at ", (str(lead), "bold"), ".")
    yield Text("In Prometheus, since when, and in which state:")
    yield Text(
        f'  sum by (agent_state) (rate(call_initiation_attempts_total{{error_code="{told[0].code}"}}[5m]))', "cyan"
    )
