"""The correlation page as people meet it: in a real browser, with figures of real calls, by eye, by key and unscripted.

The browser gets no answer from the internet: what it asks for beside the listener's own address is noted, and refused.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import time_ns

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from prometheus_client import CollectorRegistry

import call_initiation
from call_initiation import catalogue
from call_initiation.events import AgentAtSend, FeedChange, FeedState, NotificationTaken, Refusal
from call_initiation.pages.correlation import FIRM
from call_initiation.pages.pages import Listener
from call_initiation.pages.windows import WINDOWS
from call_initiation.recording.aggregate import Aggregate
from call_initiation.recording.recent import Recent
from samples import REFUSED
from servers import Received, Server, answer

AGENTS = {
    "BUSY": "9d4b4c1e-0000-4000-8000-000000000001",
    "AVAILABLE": "9d4b4c1e-0000-4000-8000-000000000002",
}
CODES = {"BUSY": "INVALID_AGENT_STATE", "AVAILABLE": "bad.request"}
HOSTILE = "<script>document.title='taken'</script>\"'><img src=x onerror=\"document.title='taken'\">&amp;"
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 20_000.0  # milliseconds


@pytest.fixture(scope="module")
def browser(engine: Callable[[str], Path]) -> Iterator[Browser]:
    """Yield a real browser."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=engine("chromium"), args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where pictures go: where `PICTURES` says, for whoever wants to look at them."""
    chosen = os.environ.get("PICTURES")
    return Path(chosen) if chosen else tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def exporter() -> Iterator[call_initiation.Exporter]:
    """Yield an exporter that listens, and has seen calls of two agents and a feed."""
    with call_initiation.Exporter(prometheus_port=0, settle=0.0) as exporter:
        for presence, agent_id in AGENTS.items():
            exporter.agent_state(agent_id, presence=presence, since=exporter.now() - 90)
        exporter._recorder.update(FeedChange(state=FeedState.UP, at=0.0))
        exporter._recorder.update(NotificationTaken(topic="presence", lag=0.01))
        place(exporter, {"BUSY": (40, 4), "AVAILABLE": (2, 50)})
        yield exporter


def place(exporter: call_initiation.Exporter, counts: dict[str, tuple[int, int]]) -> None:
    """Place calls: of each agent, so many that are refused and so many that are accepted."""
    with Server(judge) as server, httpx.Client(base_url=server.url, trust_env=False) as plain:
        client = exporter.instrument(plain)
        for presence, (refused, accepted) in counts.items():
            for verdict in ["refuse"] * refused + ["accept"] * accepted:
                named = {"x-verdict": f"{verdict} {presence}"}
                said = {"call_initiation": {"agent_id": AGENTS[presence]}}
                client.post("/api/v2/conversations/calls", json={}, headers=named, extensions=said)
        assert exporter.flush()


def judge(request: Received) -> Iterator[bytes]:
    """Answer as the request says."""
    verdict, presence = request.headers["x-verdict"].split()
    if verdict == "accept":
        yield answer(202, b"{}")
    else:
        body = {"status": 400, "code": CODES[presence], "contextId": "5b8f0f6e-0000-4000-8000-000000000002"}
        yield answer(400, json.dumps(body).encode(), ("Content-Type", "application/json"))


class Visit:
    """A page in a browser, what it asked of others, and what it complained about."""

    def __init__(self, context: BrowserContext, home: str) -> None:
        self.home = home
        self.asked: list[str] = []
        self.complaints: list[str] = []
        context.route("**/*", self._guard)
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(home)

    def _guard(self, route: Route) -> None:
        if route.request.url.startswith(self.home):
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()


@contextmanager
def visit(browser: Browser, url: str | None, **options: object) -> Iterator[Visit]:
    """Yield a visit; at its end nothing was asked of others, and nothing complained about."""
    assert url
    context = browser.new_context(viewport={"width": 1440, "height": 1010}, **options)  # type: ignore[arg-type]
    there = Visit(context, f"{url.removesuffix('/metrics')}/")
    yield there
    assert ([], []) == (there.asked, there.complaints)
    context.close()


def table(page: Page, part: str) -> list[list[str]]:
    """Return a table's rows as they are shown: each cell's first line."""
    rows = page.locator(f"#{part} tr").all()
    return [[text.split("\n")[0] for text in row.locator("th, td").all_inner_texts()] for row in rows]


def test_the_cells_are_the_snapshots(browser: Browser, exporter: call_initiation.Exporter) -> None:
    """As the browser shows them: each code in each state, and the outcomes."""
    attempts = next(family for family in exporter.aggregate.snapshot() if family.metric is catalogue.ATTEMPTS)
    counted = {labels[3:]: f"{number.value:.0f}" for labels, number in attempts.numbers.items()}
    with visit(browser, exporter.metrics_url) as there:
        head, totals, _, *rows = table(there.page, "cells")
        shown = {(row[0], state): cell for row in rows for state, cell in zip(head[3:], row[3:], strict=True) if cell}
        outcomes = table(there.page, "outcomes")[1:]
    assert {pair: count for pair, count in counted.items() if pair[0] != "none"} == shown
    assert sum(map(int, counted.values())) == int(totals[2]) == sum(int(row[1]) for row in outcomes)


def test_the_last_failures_are_those_of_the_calls(browser: Browser, exporter: call_initiation.Exporter) -> None:
    """The newest first, each with its agent, state, codes and correlation id."""
    with visit(browser, exporter.metrics_url) as there:
        _, *rows = table(there.page, "failures")
    correlation_id = "5b8f0f6e-0000-4000-8000-000000000002"
    assert [
        ["rejected", CODES[presence], presence.lower(), AGENTS[presence], correlation_id]
        for presence in ["AVAILABLE"] * 2 + ["BUSY"] * 40
    ] == [row[1:] for row in rows]


def test_the_feed_is_told_of(browser: Browser, exporter: call_initiation.Exporter) -> None:
    """As far as there is anything to tell."""
    with visit(browser, exporter.metrics_url) as there:
        shown = {row[0]: row[1] for row in table(there.page, "feed")}
    assert ("up", "presence 1", "none") == (shown["now"], shown["notifications"], shown["reconnects"])


def test_every_link_and_every_scrolling_part_is_reached_by_key(
    browser: Browser, exporter: call_initiation.Exporter
) -> None:
    """In the order in which they stand, and one sees where one is."""
    with visit(browser, exporter.metrics_url) as there:
        reached = []
        for _ in range(8):
            there.page.keyboard.press("Tab")
            focused = there.page.locator(":focus")
            expect(focused).to_have_css("outline-style", "solid")
            expect(focused).to_have_css("outline-width", "2px")
            reached.append(focused.get_attribute("href") or focused.get_attribute("id"))
    assert [
        "/metrics",
        "/-/healthy",
        "/-/ready",
        *(f"/?window={name}" for name in WINDOWS),
        "cells",
        "failures",
    ] == reached


def test_links_lead_where_they_say(browser: Browser, exporter: call_initiation.Exporter) -> None:
    """By the keyboard alone."""
    with visit(browser, exporter.metrics_url) as there:
        there.page.get_by_role("link", name="/-/healthy").press("Enter")
        expect(there.page.get_by_text("healthy")).to_be_visible()


def test_hostile_texts_stay_texts(browser: Browser) -> None:
    """Were a code, an agent or an id ever let through unmasked, it would be shown and not run."""
    aggregate, recent = Aggregate(), Recent(dict)
    refusal = Refusal(codes=(HOSTILE, HOSTILE), correlation_id=HOSTILE)
    attempt = replace(REFUSED, started_at=time_ns(), refusal=refusal, agent=AgentAtSend(id=HOSTILE), error_type=HOSTILE)
    recent.record(attempt)
    aggregate.record(attempt)
    listener = Listener(CollectorRegistry(), aggregate.snapshot, recent, "127.0.0.1", 0)
    with visit(browser, listener.url) as there:
        shown = there.page.get_by_text(HOSTILE, exact=True)
        assert (0, "100% of 1 calls refused") == (there.page.locator("img").count(), there.page.title())
        assert 5 == shown.count()
    listener.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_systems_colours(
    browser: Browser, exporter: call_initiation.Exporter, pictures: Path, scheme: str
) -> None:
    """Text keeps a contrast of 4.5 to 1 against what it stands on (WCAG 2.2, 1.4.3), grey text and links too."""
    with visit(browser, exporter.metrics_url) as there:
        there.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        there.page.screenshot(path=pictures / f"page-{scheme}.png", full_page=True)
        texts = there.page.locator("main p, dt, dd, th, td, small, a, code, footer")
        contrasts: list[float] = texts.evaluate_all(CONTRASTS)
        is_dark = there.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert (scheme == "dark") == is_dark
    assert min(contrasts) >= 4.5


CONTRASTS = """
(elements) => {
  const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((part, at) => part * a + below[at] * (1 - a));
  const paper = (element) => {
    const below = element.parentElement ? paper(element.parentElement) : [255, 255, 255];
    return over(parsed(getComputedStyle(element).backgroundColor), below);
  };
  const light = (colour) => {
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return elements.map((element) => {
    const [one, other] = [light(parsed(getComputedStyle(element).color)), light(paper(element))];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  });
}
"""
"""Relative luminance and contrast ratio as WCAG 2.2 defines them, of each element's text on the colours behind it."""


@pytest.mark.parametrize("width", [1440, 390])
def test_it_scrolls_sideways_in_its_tables_only(
    browser: Browser, exporter: call_initiation.Exporter, width: int
) -> None:
    """On a telephone too."""
    with visit(browser, exporter.metrics_url) as there:
        there.page.set_viewport_size({"width": width, "height": 800})
        assert width >= there.page.evaluate("document.documentElement.scrollWidth")


@pytest.fixture
def long_codes() -> Iterator[Listener]:
    """Yield a listener that shows codes as long as any: one that has words, and one that has none."""
    aggregate, recent = Aggregate(), Recent(dict)
    for code in ["error." + "words." * 12 + "x", "A" * 80]:
        attempt = replace(REFUSED, started_at=time_ns(), refusal=Refusal(codes=(code,)))
        for record in [aggregate.record, recent.record] * FIRM:
            record(attempt)
    listener = Listener(CollectorRegistry(), aggregate.snapshot, recent, "127.0.0.1", 0)
    yield listener
    listener.close()


@pytest.mark.parametrize("width", [1280, 768, 320])
def test_long_codes_leave_room_for_the_figures(browser: Browser, long_codes: Listener, width: int) -> None:
    """They are broken, in the sentences above the table as well; at 320 pixels, too (WCAG 2.2, 1.4.10)."""
    with visit(browser, long_codes.url) as there:
        there.page.set_viewport_size({"width": width, "height": 800})
        assert width >= there.page.evaluate("document.documentElement.scrollWidth")
        for part in ("#cells thead th:nth-child(3)", "#cells tbody tr:last-child td:nth-child(3)"):
            box = there.page.locator(part).bounding_box()
            assert box is not None
            assert width >= box["x"] + box["width"]


def test_on_paper_nothing_is_cut_off(browser: Browser, exporter: call_initiation.Exporter) -> None:
    """There is nothing to scroll with; and paper is white, whatever the screen is."""
    with visit(browser, exporter.metrics_url) as there:
        there.page.emulate_media(media="print", color_scheme="dark")
        expect(there.page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
        for part in ("#cells", "#failures"):
            expect(there.page.locator(part)).to_have_css("overflow", "visible")
            expect(there.page.locator(part)).to_have_css("max-height", "none")


def test_without_javascript_it_is_whole_and_loads_itself_anew(
    browser: Browser, exporter: call_initiation.Exporter
) -> None:
    """The figures are there, and a later call shows up without anybody's doing."""
    with visit(browser, exporter.metrics_url, java_script_enabled=False) as there:
        before = int(there.page.locator("#headline dd").first.inner_text())
        place(exporter, {"BUSY": (1, 0)})
        expect(there.page.locator("#headline dd").first).to_have_text(str(before + 1), timeout=PATIENCE)


def test_figures_change_under_the_readers_hands_without_taking_anything_from_them(
    browser: Browser, exporter: call_initiation.Exporter
) -> None:
    """Focus and both scroll positions stay; what is selected stays as it was until it is let go."""
    with visit(browser, exporter.metrics_url) as there:
        page = there.page
        failures, first = page.locator("#failures"), page.locator("#headline dd").first
        before = int(first.inner_text())
        failures.focus()
        failures.evaluate("element => element.scrollTo(0, 200)")
        page.evaluate("scrollTo(0, 150)")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('#outcomes td'))")
        outcomes = page.locator("#outcomes").inner_text()
        place(exporter, {"BUSY": (1, 0)})
        expect(first).to_have_text(str(before + 1), timeout=PATIENCE)
        expect(failures).to_be_focused()
        assert [200, 150] == page.evaluate("[document.querySelector('#failures').scrollTop, scrollY]")
        assert outcomes == page.locator("#outcomes").inner_text()
        page.evaluate("getSelection().removeAllRanges()")
        expect(page.locator("#outcomes")).not_to_have_text(outcomes, timeout=PATIENCE)


def test_an_exporter_that_is_gone_is_said_to_be_gone(browser: Browser) -> None:
    """The figures stay, with a word that they are the last ones."""
    with call_initiation.Exporter(prometheus_port=0) as exporter, visit(browser, exporter.metrics_url) as there:
        expect(there.page.get_by_text("No calls yet.")).to_be_visible()
        expect(there.page.get_by_role("status")).to_be_hidden()
        exporter.close()
        expect(there.page.get_by_role("status")).to_be_visible(timeout=PATIENCE)
        there.complaints.clear()  # the browser's own, of a connection refused
