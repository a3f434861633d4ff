"""Takes the README's two pictures from a real demonstration: the page as PNG, the terminal as SVG.

Unlike the other generated documents they show what happened in one run, so they are made by hand and not checked.
The page needs Chromium on the path. `python docs/pictures.py [--seconds 90]`
"""

import argparse
import asyncio
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from call_initiation.program import service, settings, terminal

IMAGES = Path(__file__).parent / "images"
BROWSER = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1440, 1170
FONT = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)


def photograph(url: str, path: Path) -> None:
    """Write a picture of a page."""
    browser = next(filter(None, map(shutil.which, BROWSER)), None)
    if browser is None:
        sys.exit("the picture of the page needs Chromium")
    with TemporaryDirectory() as profile:
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", "--hide-scrollbars"),
            *(f"--screenshot={path}", url),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603 - the browser found above


def draw(scene: terminal.Scene, path: Path) -> None:
    """Write a picture of the live table, with no font from elsewhere."""
    console = Console(file=io.StringIO(), record=True, width=110, height=34, force_terminal=True)
    console.print(scene)
    svg = console.export_svg(title="call-initiation-exporter demo", theme=DIMMED_MONOKAI)
    path.write_text(FONT.sub("", svg).rstrip() + "\n", encoding="utf-8")


async def take(seconds: float) -> None:
    """Run a demonstration for so many seconds, then take both pictures of it."""
    chosen = settings.load(flags={"metrics_listen": "127.0.0.1:9464"})
    async with service.demonstration(chosen, seed=1, rate=20) as running:
        await asyncio.sleep(seconds)
        links = (f"page     {running.url}/", f"metrics  {running.url}/metrics")
        scene = terminal.Scene(running.exporter.aggregate.snapshot, lambda: seconds, None, links)
        draw(scene, IMAGES / "demo.svg")
        await asyncio.to_thread(photograph, f"{running.url}/", IMAGES / "page.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    IMAGES.mkdir(exist_ok=True)
    asyncio.run(take(parser.parse_args().seconds))
