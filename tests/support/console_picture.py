"""The picture of the console in README.md: `make picture` takes it, of the demo's home (home/demo), with Chromium."""

import shutil
import sys
import tempfile
from pathlib import Path

from places import ROOT
from playwright.sync_api import sync_playwright
from serving_process import serving

WIDTH, HEIGHT = 1200, 980  # pixels


def take(home: Path, picture: Path) -> None:
    """Serve a home, open its console, and save what it shows."""
    chromium = shutil.which("chromium")
    if chromium is None or not (home / "models/latest.json").exists():
        sys.exit(f"this needs Debian's chromium and a home with a model at {home}: run `make run` first")
    with (
        tempfile.TemporaryDirectory() as scratch,
        serving(home, Path(scratch) / "log") as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{address}/?decision=fraud")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    take(ROOT / "home/demo", ROOT / "serving/console.png")
