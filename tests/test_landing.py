"""What the correlation page promises: the figures, nothing from outside unescaped, and nothing asked of others."""

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from call_initiation import catalogue
from call_initiation.events import AgentAtSend, Attempt, FeedChange, FeedState, Refusal, StateLabel
from call_initiation.pages.correlation import series
from call_initiation.pages.landing import POLICY, render
from call_initiation.pages.windows import WINDOWS
from call_initiation.recording.aggregate import Aggregate, Family, Number, View
from call_initiation.recording.recent import Counts, Look
from markup import Page
from samples import ACCEPTED, REFUSED, STARTED_AT

NOW = STARTED_AT / 1e9 + 75.0


def rendered(view: View, *failures: Attempt) -> str:
    """Return the page 75 seconds after the sample calls."""
    return render(view, failures, (), "all", NOW)


def view(calls: Iterable[Attempt]) -> View:
    """Return the snapshot after these calls."""
    aggregate = Aggregate()
    aggregate.add_source(
        lambda: [
            (catalogue.BUILD_INFO, ("1.2.3",), 1),
            (catalogue.RECORDER_RECORDED, ("attempts",), 60),
            (catalogue.RECORDER_EXPORTED, ("attempts",), 60),
            (catalogue.RECORDER_PENDING, ("attempts",), 0),
        ]
    )
    for call in calls:
        aggregate.record(call)
    return aggregate.snapshot()


def attempts(view: View) -> Counts:
    """Return how the attempts stand in a snapshot."""
    return {labels: number.value for labels, number in series(view, catalogue.ATTEMPTS)}


def refused(code: str, state: StateLabel) -> Attempt:
    """Return a refused call."""
    return replace(REFUSED, agent=AgentAtSend(label=state), refusal=Refusal(codes=(code,)))


BUSY = [refused("INVALID_AGENT_STATE", StateLabel.BUSY)] * 30
STATIONLESS = [refused("conversation.error.no.user.station", StateLabel.NO_STATION)] * 10
FREE = [replace(ACCEPTED, agent=AgentAtSend(label=StateLabel.AVAILABLE))] * 20


def test_the_table_has_codes_by_state() -> None:
    """With the attempts and the refusal rate of each state, and count, rate and lift of each cell."""
    page = Page(rendered(view(BUSY + STATIONLESS + FREE)))
    assert [
        ["error code", "last hour", "all", "no_station", "available", "busy"],
        ["attempts", "", "60", "10", "20", "30"],
        ["refused", "", "67%", "100%", "0%", "100%"],
        ["INVALID_AGENT_STATE", "", "30 50%", "", "", "30 100% · 2.0×"],  # noqa: RUF001 - the sign of multiplication
        ["conversation.error.no.user.station", "", "10 17%", "10 100% · 6.0×", "", ""],  # noqa: RUF001 - as above
        ["outcome", "attempts", "share"],
        ["rejected", "40", "67%"],
        ["accepted", "20", "33%"],
    ] == page.rows


def test_a_window_without_calls_says_so_and_how_many_there_were() -> None:
    """They are all there in the widest one."""
    seen = view(BUSY + FREE)
    looks = (Look(0, {}), Look(int(NOW), attempts(seen)))
    for word, said in (("10m", "in the last 10 minutes"), ("1h", "in the last hour")):
        page = Page(render(seen, (), looks, word, NOW))
        assert f"No calls {said}; 50 since the start." in page.text
        assert f"<title>No calls {said}</title>" in render(seen, (), looks, word, NOW)
    assert "attempts50accepted20" in Page(render(seen, (), looks, "all", NOW)).text


def test_each_minute_of_the_last_hour_has_a_bar_and_the_picture_a_name() -> None:
    """As high as the minute's share of the highest one."""
    minute = int(NOW) // 60 * 60
    earlier = attempts(view(BUSY[:10]))
    html = render(view(BUSY), (), (Look(minute - 600, {}), Look(minute, earlier)), "1h", NOW)
    first, last = (f"{datetime.fromtimestamp(at, UTC):%H:%M}" for at in (minute - 600, minute))
    assert f"<title>from {first} UTC on, at most 20 a minute ({last})</title>" in html
    assert 'd="M50.5 20v-10.0M60.5 20v-20.0"' in html


def test_the_headline_says_where_to_look() -> None:
    """The sums, and each lead."""
    page = Page(rendered(view(BUSY + FREE)))
    assert "attempts50accepted20refused30refusal rate60%" in page.text
    assert "Look first at INVALID_AGENT_STATE with agents busy: 30 of their 30 attempts (100%), elsewhere" in page.text
    assert "attempts: 60 recorded = 60 exported + 0 pending + 0 dropped" in page.text
    assert "call-initiation-exporter 1.2.3" in page.text


def test_a_broken_payload_is_said_to_be_one_beside_agents_who_cant_call() -> None:
    """One sentence each, what explains more refusals first."""
    broken = [refused("invalid.value", state) for state in (StateLabel.AVAILABLE, StateLabel.ON_QUEUE)] * 30
    queued = [replace(ACCEPTED, agent=AgentAtSend(label=StateLabel.ON_QUEUE))] * 20
    page = Page(rendered(view(BUSY + broken + FREE + queued)))
    assert (
        "Look first at our payload: invalid.value met 60 of 130 attempts (46%), in all states alike."
        "Then at INVALID_AGENT_STATE with agents busy: 30 of their 30 attempts (100%), elsewhere 0%."
    ) in page.text


def test_cells_of_few_attempts_are_grey_and_others_shaded_by_their_rate() -> None:
    """Thirty attempts of a state make its cells firm."""
    page = Page(rendered(view(BUSY + STATIONLESS + FREE)))
    assert ["few", "s5"] == sorted(named["class"] or "" for tag, named in page.tags if tag == "td" and "class" in named)


def test_without_calls_it_says_how_to_instrument() -> None:
    """And shows no empty table."""
    page = Page(rendered(view([])))
    assert [] == page.rows
    assert "No calls yet" in page.text
    assert "exporter.instrument(httpx.Client(" in page.text


def gateway(*refused: str, calls: Iterable[Attempt] = ()) -> View:
    """Return the snapshot of a gateway that refused these by itself."""
    aggregate = Aggregate()
    for code in ("malformed", "overloaded"):
        aggregate.count(catalogue.GATEWAY_REFUSALS, (code,), refused.count(code))
    for call in calls:
        aggregate.record(call)
    return aggregate.snapshot()


def test_without_calls_a_gateway_says_how_to_send_them_to_it() -> None:
    """Its dialer may be in any language."""
    page = Page(rendered(gateway()))
    assert "No calls yet. Have the dialer send them to the gateway in place of the API" in page.text
    assert "instrument(" not in page.text
    assert "refused" not in page.text.split("Refusals by error code")[0]


def test_what_a_gateway_refused_itself_is_said_with_and_without_calls() -> None:
    """By code, the most first, and what to do about that one."""
    said = (
        "The gateway itself refused 1,234 requests since the start, which are in no other figure: "
        "malformed 1,233, overloaded 1. Look at the message, then at the dialer's HTTP client."
    )
    refused = ("overloaded", *["malformed"] * 1_233)
    assert said in Page(rendered(gateway(*refused))).text
    assert said in Page(rendered(gateway(*refused, calls=FREE))).text
    assert "The gateway itself" not in Page(rendered(gateway(calls=FREE))).text


def test_a_code_of_the_gateways_that_nobody_knows_is_shown_all_the_same() -> None:
    """Without advice."""
    unheard: View = (Family(catalogue.GATEWAY_REFUSALS, {("<b>",): Number(2)}),)
    assert "in no other figure: <b> 2." in Page(rendered(unheard)).text


def test_where_all_is_accepted_there_is_nothing_to_look_at() -> None:
    """No cells, no first look; the outcomes stay."""
    page = Page(rendered(view(FREE)))
    assert [["outcome", "attempts", "share"], ["accepted", "20", "100%"]] == page.rows
    assert "Look first" not in page.text


def test_the_feeds_health_is_below_the_headline() -> None:
    """One sentence; none without a feed."""
    aggregate = Aggregate()
    for event in (FeedChange(state=FeedState.DOWN, reason="dropped", at=0.0), *FREE):
        aggregate.record(event)
    shown = Page(rendered(aggregate.snapshot())).text
    assert "State feed down, 0 events; states known 0%, stale 0%, unknown 100%." in shown
    assert "State feed" not in Page(rendered(view(FREE))).text


@given(st.text(max_size=30), st.text(max_size=30).filter(lambda text: text not in set(StateLabel)))
def test_nothing_from_outside_becomes_markup(code: str, state: str) -> None:
    """Whatever a code or a state is, the page has the elements that it has for a harmless one."""
    assert Page(rendered(labelled("harmless", "harmless"))).tags == Page(rendered(labelled(code, state))).tags


def test_the_last_failures_stand_below_the_figures() -> None:
    """With the time that has passed since."""
    page = Page(rendered(view(BUSY), REFUSED))
    assert "14:13:20 2026-09-21, 1 min ago" == page.rows[-3][0]
    assert "None yet." in Page(rendered(view(BUSY))).text


def test_the_feeds_section_is_there_where_there_is_a_feed() -> None:
    """What it says is `tables`'."""
    aggregate = Aggregate()
    aggregate.record(FeedChange(state=FeedState.UP, at=0.0))
    assert ["now", "up"] in Page(rendered(aggregate.snapshot())).rows
    assert "State feed" not in Page(rendered(view(BUSY))).text


def labelled(code: str, state: str) -> View:
    """Return a snapshot with any texts as labels, as if nobody had looked at them before."""
    labels = ("/api/v2/conversations/calls", code, "400", code, state)
    return (
        Family(catalogue.ATTEMPTS, {labels: Number(40), (*labels[:1], "accepted", "202", "none", "idle"): Number(9)}),
    )


def test_an_attack_is_shown_as_what_it_is() -> None:
    """The text itself, escaped."""
    html = rendered(labelled("<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<img" not in html
    assert 1 == html.count("<script>")


def test_the_policy_allows_this_style_and_this_script_only() -> None:
    """By their digests (Content Security Policy Level 3)."""
    html = rendered(view(BUSY))
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        found = re.search(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
        assert found
        digest = b64encode(sha256(found[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in POLICY
    assert "style=" not in html
    assert POLICY.startswith("default-src 'none'")


def test_it_refers_to_no_other_host() -> None:
    """Links and resources stay on the listener; the empty page names an API host in its example only."""
    page = Page(rendered(view(BUSY)))
    targets = [named[key] or "" for _, named in page.tags for key in ("href", "src", "action") if key in named]
    assert ["data:,", "/metrics", "/-/healthy", "/-/ready", *(f"/?window={word}" for word in WINDOWS)] == targets


def test_it_is_fit_for_keyboards_readers_and_browsers_without_scripts() -> None:
    """A language, a title, a table whose scrolling region takes the focus, headed rows and columns, a reload."""
    page = Page(rendered(view(BUSY + FREE)))
    named = dict(page.tags)
    assert ("en", "60%") == (named["html"]["lang"], rendered(view(BUSY + FREE)).split("<title>")[1][:3])
    assert ("noscript", {}) in page.tags
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in page.tags
    region = next(found for tag, found in page.tags if tag == "div" and found.get("role") == "region")
    assert ("0", "cells-title") == (region["tabindex"], region["aria-labelledby"])
    assert all(found.get("scope") in {"row", "col"} for tag, found in page.tags if tag == "th")
    assert [] == page.open
