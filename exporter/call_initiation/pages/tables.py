"""The page's tables as HTML: codes by state, outcomes, the last failures, and the state feed.

Laws: every text that came from outside (error codes above all) is escaped where it becomes markup, which is here; a
table that would have no rows is a sentence.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from call_initiation.events import AgentAtSend, Attempt
from call_initiation.pages.correlation import Cell, Correlation, percent
from call_initiation.pages.health import FeedHealth, bounded, shares
from call_initiation.pages.windows import TREND, Trends
from call_initiation.recording.recent import MINUTE

_SHADES: Final = 5
_TALL: Final = 20
"""A trend's height, in units of its own."""
_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_NONE: Final = "<p>None yet.</p>"


def cells(found: Correlation, came: Trends) -> str:
    """Return refusals by code and state, and how they came."""
    if not found.cells:
        return _NONE
    attempts = (f"{count:,}" for count in (found.total, *found.attempts.values()))
    shares = map(percent, (found.refusal_rate, *map(found.state_rate, found.attempts)))
    rows = (
        _row("attempts", _figures((_trend(came.attempts, came.begin), *attempts))),
        _row("refused", _figures((_trend(came.refused, came.begin), *shares))),
        *(_code_row(found, code, count, came) for code, count in found.codes.items()),
    )
    return _table(("error code", "last hour", "all", *found.attempts), rows)


def outcomes(found: Correlation) -> str:
    """Return attempts by outcome."""
    rows = (
        _row(escape(outcome), _figures((f"{count:,}", percent(count / found.total))))
        for outcome, count in found.outcomes.items()
    )
    return _table(("outcome", "attempts", "share"), rows) if found.total else _NONE


def failures(recent: Sequence[Attempt], now: float) -> str:
    """Return the last failures, the newest first; `now` is in seconds since the epoch."""
    heads = ("when (UTC)", "outcome", "error codes", "state before the send", "agent", "correlation id")
    return _table(heads, (_failure_row(attempt, now) for attempt in recent), "texts") if recent else _NONE


def feed(health: FeedHealth) -> str:
    """Return how the state feed does."""
    told = {
        "now": "up" if health.is_up else "down",
        "notifications": _counted(health.topics, "none yet"),
        "lag": "not known yet" if health.lag is None else f"p95 {bounded(health.lag)}",
        "reconnects": _counted(health.reconnects, "none"),
        "server's clock": _skew(health.skew),
        "states at sends": shares(health) if any(health.joins.values()) else "none asked for yet",
    }
    return _table((), (_row(name, f"<td>{escape(text)}</td>") for name, text in told.items()), "texts")


def span(seconds: float) -> str:
    """Return a length of time by its largest unit, cut: `0 s`, `59 s`, `1 min`, `23 h`, `4 d`."""
    size, unit = next((size, unit) for size, unit in _SPANS if seconds >= size or size == 1)
    return f"{max(0, int(seconds // size)):,} {unit}"


def _table(heads: Iterable[str], rows: Iterable[str], kind: str = "figures") -> str:
    named = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    head = f"<thead><tr>{named}</tr></thead>" if named else ""
    return f'<table class="{kind}">{head}<tbody>{"".join(rows)}</tbody></table>'


def _row(head: str, data: str) -> str:
    return f'<tr><th scope="row">{head}</th>{data}</tr>'


def _figures(figures: Iterable[str]) -> str:
    return "".join(f"<td>{figure}</td>" for figure in figures)


def _code_row(found: Correlation, code: str, count: int, came: Trends) -> str:
    trend = f"<td>{_trend(came.codes.get(code, Counter()), came.begin)}</td>"
    total = f"<td>{count:,}<small>{percent(count / found.total)}</small></td>"
    return _row(_code(code), trend + total + "".join(_cell(found.cells.get((code, state))) for state in found.attempts))


def _trend(counts: Counter[int], begin: int) -> str:
    """Return a bar for each minute that had any, as a picture with a name; nothing where none had."""
    if not counts:
        return ""
    most = max(counts.values())
    bars = "".join(f"M{minute}.5 {_TALL}v-{_TALL * count / most:.1f}" for minute, count in sorted(counts.items()))
    first, peak = min(counts), min(minute for minute, count in counts.items() if count == most)
    name = f"from {_clock(begin, first)} UTC on, at most {most:,} a minute ({_clock(begin, peak)})"
    return (
        f'<svg role="img" viewBox="0 0 {TREND} {_TALL}" preserveAspectRatio="none"><title>{name}</title>'
        f'<path d="{bars}"/></svg>'
    )


def _clock(begin: int, minute: int) -> str:
    return f"{datetime.fromtimestamp(begin + minute * MINUTE, UTC):%H:%M}"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    shade = f"s{round(cell.rate * _SHADES)}" if cell.is_firm else "few"
    return (
        f'<td class="{shade}">{cell.refusals:,}<small>{percent(cell.rate)} &middot; {cell.lift:.1f}&times;</small></td>'
    )


def _failure_row(attempt: Attempt, now: float) -> str:
    correlation_id = attempt.refusal and attempt.refusal.correlation_id
    texts = (
        f"{attempt.outcome}<small>{escape(attempt.error_type or '')} after {_lasting(attempt.duration)}</small>",
        _codes(attempt),
        _state(attempt.agent),
        _code(attempt.agent.id) if attempt.agent.id else "none named",
        _code(correlation_id) if correlation_id else "none",
    )
    return _row(_moment(attempt.started_at / 1e9, now), _figures(texts))


def _moment(at: float, now: float) -> str:
    stamp = datetime.fromtimestamp(at, UTC)
    shown = f'<time datetime="{stamp:%Y-%m-%dT%H:%M:%SZ}">{stamp:%H:%M:%S}</time>'
    return f"{shown}<small>{stamp:%Y-%m-%d}, {span(now - at)} ago</small>"


def _lasting(seconds: float) -> str:
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _codes(attempt: Attempt) -> str:
    further = attempt.refusal.codes[1:] if attempt.refusal else ()
    return _code(attempt.error_code) + "".join(f"<small>{_code(code)}</small>" for code in further)


def _state(agent: AgentAtSend) -> str:
    age = "" if agent.age is None else f"for {span(agent.age)}, "
    certainty = agent.state.certainty.value
    return f"{agent.label}<small>{age}{certainty}</small>" if age or certainty != agent.label.value else certainty


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _counted(counts: dict[str, int], none: str) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or none


def _skew(seconds: float | None) -> str:
    if seconds is None:
        return "not known yet"
    return f"{abs(seconds):.2f} s {'ahead of' if seconds >= 0 else 'behind'} ours"
