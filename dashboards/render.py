"""Draws the dashboards with Grafana's own components in Chromium, from live data: the pictures in `docs/images`.

A demonstration dials, a real Prometheus scrapes it, each panel's queries are asked as Grafana would ask them, and a
page of `@grafana/ui` draws the answers (`render/`). Pictures show what happened in one run: they are made by hand and
not checked. Needs npm, Prometheus and Chromium. `make pictures`; `--again` draws the last run's answers anew.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import time
from typing import Any, Final

import httpx
from build import PAGES

from call_initiation.program import service, settings

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from boards import BOARDS, PROMETHEUS, chosen  # noqa: E402 - the tests know how a query is asked
from watching import Prometheus, prometheus  # noqa: E402 - and how Prometheus is run

SOURCES: Final = ROOT / "dashboards" / "render"
INSTALLED: Final = ROOT / ".engines" / "grafana"
IMAGES: Final = ROOT / "docs" / "images"
PICTURES: Final = {page.uid: page.picture for page in PAGES if page.picture}
"""By dashboard; the agent timeline asks Tempo and Loki, which can't be run here."""

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
WIDTH, ROW, GAP = 1680, 30, 8
ROWS: Final = 50
"""Of the dashboard's grid: a picture ends with the last panel that ends before this."""

WARM: Final = 20.0
"""Seconds before the time that is shown, so that rates have something to look back on."""

Shown = dict[str, Any]


def program(*names: str) -> Path:
    """Return the first of these programs that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    return Path(found) if found else sys.exit(f"the pictures need {names[0]}")


def asked(seen: Prometheus, target: dict[str, Any], seconds: float, points: int | None) -> list[dict[str, Any]]:
    """Return the answer to one target of a panel, which may want no more than so many points."""
    step = seconds / points if points else 1.0
    query = chosen(target["expr"], window=f"{1000 * step + 500:.0f}ms" if points else "15s", period=f"{seconds:.0f}s")
    return seen.now(query) if target.get("instant") else seen.over_time(query, seconds, step)


def page(seen: Prometheus, name: str, seconds: float) -> Shown:
    """Return all that a page shows."""
    panels = [panel for panel in BOARDS[name]["panels"] if "targets" in panel]
    to = time()
    answers = {
        panel["id"]: {
            target["refId"]: asked(seen, target, seconds, panel.get("maxDataPoints")) for target in panel["targets"]
        }
        for panel in panels
    }
    return {"answers": answers, "from": (to - seconds) * 1000, "to": to * 1000, "width": WIDTH - 2 * GAP}


def watch(target: str, organisation: str, seconds: float) -> dict[str, Shown]:
    """Scrape for so many seconds, cut the state feed in the middle of them, then ask for all pages."""
    pause, files = Event(), [PROMETHEUS / "recording.yaml", PROMETHEUS / "alerts.yaml"]
    with TemporaryDirectory() as home, prometheus(program("prometheus"), Path(home), {"dialer": target}, files) as seen:
        pause.wait(WARM + seconds / 2)
        httpx.post(f"{organisation}/simulator/faults", json={"strike": "drop"}, trust_env=False).raise_for_status()
        pause.wait(seconds / 2)
        return {name: page(seen, name, seconds) for name in PICTURES}


async def demonstrate(seconds: float) -> dict[str, Shown]:
    """Run a demonstration, and return what Prometheus saw of it."""
    loaded = settings.load(flags={"metrics_listen": "127.0.0.1:0"})
    async with service.demonstration(loaded, seed=1, rate=20) as running:
        target = str(running.url).removeprefix("http://")
        return await asyncio.to_thread(watch, target, running.organisation_url, seconds)


def install() -> None:
    """Install Grafana's components, exactly those of `package.json`, and bundle the page."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    wanted = (SOURCES / "package.json").read_text(encoding="utf-8")
    manifest = INSTALLED / "package.json"
    if not manifest.is_file() or manifest.read_text(encoding="utf-8") != wanted:
        manifest.write_text(wanted, encoding="utf-8")
        run(program("npm"), "install", "--prefix", INSTALLED, "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    for source in SOURCES.iterdir():
        shutil.copy(source, INSTALLED)
    loaders = ("--loader:.woff2=dataurl", "--loader:.woff=empty", "--loader:.ttf=empty", "--loader:.svg=dataurl")
    bundling = ("--bundle", "--minify", "--jsx=automatic", "--log-level=error", *loaders)
    built = f"--outfile={INSTALLED / 'page.js'}"
    run(INSTALLED / "node_modules" / ".bin" / "esbuild", INSTALLED / "page.jsx", *bundling, built)


def draw(name: str, shown: Shown) -> None:
    """Draw one page."""
    board = BOARDS[name]
    text = f"window.picture = {json.dumps({**shown, 'dashboard': board})}"
    (INSTALLED / "picture.js").write_text(text, encoding="utf-8")
    rows = max(filter(ROWS.__ge__, (panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])))
    height = rows * (ROW + GAP) + GAP
    with TemporaryDirectory() as profile:
        headless = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
        waiting = (f"--user-data-dir={profile}", "--allow-file-access-from-files", "--virtual-time-budget=10000")
        picture = (f"--window-size={WIDTH},{height}", f"--screenshot={INSTALLED / PICTURES[name]}")
        said = run(program(*BROWSERS), *headless, *waiting, *picture, (INSTALLED / "page.html").as_uri())
    if faults := [line for line in said.splitlines() if "Uncaught" in line]:
        sys.exit("\n".join(faults))
    run(program("node"), INSTALLED / "shrink.js", INSTALLED / PICTURES[name], IMAGES / PICTURES[name])


def run(*command: object) -> str:
    """Run a program to its end, and return what it complained of."""
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=600)  # noqa: S603 - programs that we chose
    return done.stderr if done.returncode == 0 else sys.exit(done.stderr + done.stdout)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Draw the dashboards from live data.")
    parser.add_argument("--seconds", type=float, default=150.0, help="of traffic that the pictures show")
    parser.add_argument("--again", action="store_true", help="draw the last run's answers anew")
    wanted = parser.parse_args()
    install()
    last = INSTALLED / "answers.json"
    if not wanted.again:
        last.write_text(json.dumps(asyncio.run(demonstrate(wanted.seconds))), encoding="utf-8")
    for name, shown in json.loads(last.read_text(encoding="utf-8")).items():
        draw(name, shown)


if __name__ == "__main__":
    main()
