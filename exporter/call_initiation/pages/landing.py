"""The correlation page: one snapshot as one HTML page that needs nothing else, not even JavaScript.

Laws: every text that came from outside (error codes above all) is escaped; the page asks no other host for anything,
and its policy forbids it to; without JavaScript the browser reloads it, with JavaScript only the figures change, so
that focus, scroll position and a selection stay.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from string import Template
from typing import Final

from call_initiation import catalogue
from call_initiation.calls import codebook
from call_initiation.events import Attempt
from call_initiation.pages import tables
from call_initiation.pages.correlation import (
    FIRM,
    Correlation,
    correlate,
    ledgers,
    most_first,
    percent,
    sentence,
    series,
)
from call_initiation.pages.health import FeedHealth, feed_health, feed_line
from call_initiation.pages.leads import leads
from call_initiation.pages.windows import WINDOWS, Window, counted_before, trends
from call_initiation.recording.aggregate import View
from call_initiation.recording.recent import KEPT, Look

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #59636e; --paper: #fff; --line: #d1d9e0; --link: #0756b3;
  --shade: 193 69 20; --flag: #9a3412; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --dim: #9aa4af; --paper: #14171a;
  --line: #343b43; --link: #7ab7ff; --shade: 230 110 50; --flag: #fdba74; } }
body { margin: 0; padding: .5rem 2rem 2rem; background: var(--paper); color: var(--ink);
  font: 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
a { color: var(--link); margin-right: 1rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 2rem; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
#headline code { overflow-wrap: anywhere; }
pre { padding: 1rem; border: 1px solid var(--line); overflow-x: auto; }
dl { display: flex; flex-wrap: wrap; gap: .5rem 3rem; margin: 1.2rem 0; }
dl div { display: flex; flex-direction: column-reverse; }
dt { color: var(--dim); } dd { margin: 0; font-size: 1.9rem; line-height: 1.2; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-weight: normal; line-height: 1.3; }
.texts th, .texts td { text-align: left; vertical-align: top; }
#failures { max-height: 26rem; overflow-y: auto; }
#cells th code, #failures td:nth-child(3) code { display: block; width: max-content; max-width: min(24rem, 40vw);
  white-space: normal; overflow-wrap: anywhere; }
#failures thead th { position: sticky; top: 0; z-index: 1; background: var(--paper); }
#feed td { white-space: normal; }
thead th { color: var(--dim); } tbody th, thead th:first-child { text-align: left; }
th:first-child { position: sticky; left: 0; padding-left: 0; background: var(--paper); }
small { display: block; color: var(--dim); }
.few, .few small { color: var(--dim); font-style: italic; }
.s1 { background: rgb(var(--shade) / .07); } .s2 { background: rgb(var(--shade) / .14); }
.s3 { background: rgb(var(--shade) / .21); } .s4 { background: rgb(var(--shade) / .28); }
.s5 { background: rgb(var(--shade) / .35); }
.s2 small, .s3 small, .s4 small, .s5 small { color: inherit; }
svg { display: block; width: 7rem; height: 1.4rem; } path { stroke: rgb(var(--shade)); }
@media (max-width: 40rem) { body { padding: .5rem 1rem 1rem; } th, td { padding: .2rem .4rem; } svg { width: 3.5rem; } }
@media print { @page { size: landscape; } :root { color-scheme: light; } body { padding: 0; font-size: 11px; }
  th, td { padding: .1rem .35rem; } .scroll, #failures { overflow: visible; max-height: none; }
  tr { break-inside: avoid; } }
#window { margin-top: .8rem; } #window a[aria-current] { color: inherit; font-weight: bold; text-decoration: none; }
.note { color: var(--dim); max-width: 60rem; }
#silent { color: var(--flag); } footer { margin-top: 2rem; color: var(--dim); }
"""

_SCRIPT: Final = """
const silent = document.getElementById("silent");
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(answer.status);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = next.title;
    const chosen = getSelection();
    for (const part of document.querySelectorAll("[data-live]"))
      if (chosen.isCollapsed || !chosen.containsNode(part, true))
        part.replaceChildren(...next.getElementById(part.id).childNodes);
    silent.hidden = true;
  } catch { silent.hidden = false; }
}
setInterval(refresh, 5000);
"""

_PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
<noscript><meta http-equiv="refresh" content="5"></noscript>
</head>
<body>
<header>
<h1>Call initiation</h1>
<nav aria-label="Other pages"><a href="/metrics">/metrics</a><a href="/-/healthy">/-/healthy</a><a href="/-/ready"
>/-/ready</a></nav>
</header>
<p id="silent" role="status" hidden>No answer from the exporter: these are the last figures it gave.</p>
<main>
<nav id="window" aria-label="Which attempts">Attempts $windows</nav>
<div id="headline" data-live>$headline</div>
<h2 id="cells-title">Refusals by error code and agent state</h2>
<div id="cells" class="scroll" role="region" aria-labelledby="cells-title" tabindex="0" data-live>$cells</div>
<p class="note">A column is the agent's state strictly before the send; a cell is how many of its attempts met the code,
their share of the state's attempts, and the lift: how many times as often as in all attempts. 1 says that the state
makes no difference. In grey italics: states with fewer than $firm attempts. Refused is all that was not accepted. The
last hour has a bar for each minute, the highest the same height in each row. What to look at first is said only where
chance would hardly make it so; it is a lead, no cause.</p>
<h2 id="failures-title">The last failures</h2>
<div id="failures" class="scroll" role="region" aria-labelledby="failures-title" tabindex="0" data-live>$failures</div>
<p class="note">Up to $kept attempts that were not accepted, the newest first; no accepted one takes their place.</p>
<h2>Outcomes</h2>
<div id="outcomes" data-live>$outcomes</div>
<div id="feed" data-live>$feed</div>
<h2>Accounts of the recorder</h2>
<div id="accounts" data-live>$accounts</div>
</main>
<footer>call-initiation-exporter $version</footer>
<script>$script</script>
</body>
</html>
""")

_SETTLING: Final = "<p>A call shows up here once it has settled, two seconds after its end by default.</p>"

_EMPTY: Final = f"""<p>No calls yet. Instrument the client that places them:</p>
<pre>with call_initiation.Exporter(prometheus_port=9464) as exporter:
    client = exporter.instrument(httpx.Client(base_url="https://api.mypurecloud.ie"))
    client.post("/api/v2/conversations/calls", json={{"phoneNumber": "+33199000000"}})</pre>
{_SETTLING}"""

_EMPTY_GATEWAY: Final = f"""<p>No calls yet. Have the dialer send them to the gateway in place of the API, at the
address that its setting <code>listen</code> has:</p>
<pre>http://127.0.0.1:8080</pre>
{_SETTLING}"""


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


POLICY: Final = (
    f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: its one style, its one script, and its own address to ask for figures."""


def render(view: View, failures: Sequence[Attempt], looks: Sequence[Look], window: str, now: float) -> str:
    """Return the page, as HTML.

    Args:
        view: The figures.
        failures: The last failures, the newest first.
        looks: How the attempts stood before, the oldest first.
        window: Of which attempts it is, a word of `WINDOWS`.
        now: Seconds since the epoch.
    """
    found = correlate(view, counted_before(WINDOWS[window], looks, view, now))
    total = int(sum(number.value for _, number in series(view, catalogue.ATTEMPTS)))
    health = feed_health(view)
    return _PAGE.substitute(
        title=_title(found, total, WINDOWS[window]),
        style=_STYLE,
        script=_SCRIPT,
        windows=_windows(window),
        headline=_headline(found, _elsewhere(total, WINDOWS[window]), feed_line(health), _refused_here(view)),
        cells=tables.cells(found, trends(looks, view, now)),
        firm=FIRM,
        failures=tables.failures(failures, now),
        kept=KEPT,
        outcomes=tables.outcomes(found),
        feed=_feed(health),
        accounts="".join(f"<p>{escape(sentence(stage, ledger))}</p>" for stage, ledger in ledgers(view).items()),
        version=escape(_version(view)),
    )


def _title(found: Correlation, total: int, window: Window) -> str:
    if found.total:
        return f"{percent(found.refusal_rate)} of {found.total:,} calls refused"
    return f"No calls {window.name}" if total else "No calls yet"


def _windows(chosen: str) -> str:
    """Return a link for each window; the chosen one is the page that one is on."""
    marks = {chosen: ' aria-current="page"'}
    return "".join(
        f'<a href="/?window={word}"{marks.get(word, "")}>{window.name}</a>' for word, window in WINDOWS.items()
    )


def _elsewhere(total: int, window: Window) -> str:
    """Say that there were attempts, though none in the window; empty where there were none at all."""
    return f"<p>No calls {window.name}; {total:,} since the start.</p>" if total else ""


def _headline(found: Correlation, elsewhere: str, health: str, refused_here: Counter[str] | None) -> str:
    own = _own_refusals(refused_here or Counter())
    if not found.total:
        return own + (elsewhere or (_EMPTY if refused_here is None else _EMPTY_GATEWAY))
    figures = {
        "attempts": f"{found.total:,}",
        "accepted": f"{found.total - found.total_refused:,}",
        "refused": f"{found.total_refused:,}",
        "refusal rate": percent(found.refusal_rate),
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{figure}</dd></div>" for name, figure in figures.items())
    return f"<dl>{listed}</dl>{own}{_leads(found)}" + (f'<p class="note">State {escape(health)}.</p>' if health else "")


def _refused_here(view: View) -> Counter[str] | None:
    """Return what the gateway itself refused, by code; None where there is no gateway."""
    refused = {labels[0]: int(number.value) for labels, number in series(view, catalogue.GATEWAY_REFUSALS)}
    return Counter(refused) if refused else None


def _own_refusals(refused: Counter[str]) -> str:
    """Return what the gateway itself refused, and what to do about most of it; nothing where it refused nothing."""
    counts = most_first(+refused)
    if not counts:
        return ""
    listed = ", ".join(f"<code>{escape(code)}</code> {count:,}" for code, count in counts.items())
    meaning = codebook.meaning_of(f"call_initiation.gateway.{next(iter(counts))}")
    advice = f" {escape(meaning.advice)}" if meaning else ""
    return (
        f"<p><strong>The gateway itself refused {refused.total():,} requests</strong> since the start, which are in no "
        f"other figure: {listed}.{advice}</p>"
    )


def _leads(found: Correlation) -> str:
    """Return where to look, a sentence for each lead."""
    return "".join(
        f"<p>{'Then' if place else 'Look first'} at <strong>{escape(lead.before)}<code>{escape(lead.code)}</code>"
        f"</strong>{escape(lead.after)}.</p>"
        for place, lead in enumerate(leads(found))
    )


def _feed(health: FeedHealth) -> str:
    """Return the feed's section; nothing where there is no feed."""
    return "" if health.is_up is None else f"<h2>State feed</h2>{tables.feed(health)}"


def _version(view: View) -> str:
    """Return the version that runs, as `build_info` has it."""
    versions = (labels[0] for family in view if family.metric is catalogue.BUILD_INFO for labels in family.numbers)
    return next(versions, "")
