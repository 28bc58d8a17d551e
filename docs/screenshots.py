"""Pictures of the page of `videolm serve` at each step, for docs/guides/serving.md.

Run: python docs/screenshots.py [--model DIR]

Needs Playwright and Chromium. The pictures go to docs/gallery/page-*.png.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import PIL.Image
from playwright.sync_api import Page, sync_playwright

GALLERY = Path(__file__).parent / "gallery"
PROMPT = "a large yellow star grows on a black background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder (default: the one that ships)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log, model = Path(folder) / "log", ["--model", args.model] if args.model else []
        command = [sys.executable, "-m", "videolm", "serve", "--port", "0", "--data", f"{folder}/data", *model]
        with log.open("w") as file:
            server = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            while not (address := re.search(r" at (http://\S+/)", log.read_text())):
                time.sleep(0.1)
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                walk(browser, address[1])
                browser.close()
        finally:
            server.terminate()
            server.wait()


def walk(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 560})
    page.goto(address)
    page.locator("#task option").first.wait_for(state="attached")
    page.fill("#prompt", PROMPT)
    take(page, "1-ask")
    page.locator("summary").click()
    page.fill("#seconds", "40")
    page.get_by_role("button", name="Make", exact=True).click()
    page.locator(".screen img").wait_for()
    page.evaluate("scrollTo(0, 0)")
    take(page, "2-watch")
    page.get_by_role("button", name="Cancel").click()
    page.fill("#seconds", "")
    page.fill("#seed", "3")
    page.locator("summary").click()
    page.get_by_role("button", name="Make", exact=True).click()
    made(page, 1)
    take(page, "3-play")
    page.get_by_role("button", name="Go on").click()
    page.locator(".next textarea").fill("a large yellow star moves left on a black background")
    take(page, "4-go-on")
    page.locator(".next button").click()
    made(page, 2)
    page.get_by_role("button", name="Use in another task").last.click()
    page.locator(".drop video").wait_for()
    page.wait_for_timeout(300)
    take(page, "5-another-task")
    page.goto(address + "docs")
    page.locator("table:visible").first.wait_for()
    take(page, "6-api")
    phone = browser.new_page(viewport={"width": 360, "height": 640})
    phone.goto(address)
    made(phone, 2)
    phone.locator("#videos").scroll_into_view_if_needed()
    phone.evaluate("document.getElementById('results').scrollIntoView()")
    take(phone, "7-phone")


def made(page: Page, count: int) -> None:
    """Wait until so many videos show a frame."""
    page.locator(".screen video").nth(count - 1).wait_for()
    ready = "[...document.querySelectorAll('.screen video')].every(v => v.readyState >= 2)"
    while not page.evaluate(ready):
        page.wait_for_timeout(50)
    page.evaluate("document.querySelectorAll('.screen video').forEach(v => { v.currentTime = 0.6; })")
    page.wait_for_timeout(2000)  # for which the browser goes on to show that it seeks


def take(page: Page, name: str) -> None:
    """A small picture of what is to be seen."""
    picture = PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(64, dither=PIL.Image.Dither.NONE).save(GALLERY / f"page-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
