"""The page in a real browser: made, watched, gone on with; by keyboard, and on a phone's width."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from videolm.media import Video, write_video

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Server = Any
"""See `conftest.py`."""
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package `chromium`)")
PROMPT = "a small red circle moves right on a white background"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The page, on which nothing may go wrong or come from elsewhere."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: wrong.append(request.url) if elsewhere(request.url, server.url) else None)
    page.goto(server.url)
    until(page, "document.querySelectorAll('#task option').length > 1")
    yield page
    context.close()
    assert wrong == []


def elsewhere(url: str, own: str) -> bool:
    return not url.startswith((own, "data:", "blob:"))


def until(page: Any, true: str) -> None:
    """Wait for an expression; the page's own rules let nothing evaluate it there again and again."""
    ends = time.monotonic() + 30
    while not page.evaluate(true):
        assert time.monotonic() < ends, true
        page.wait_for_timeout(20)


def first_card(page: Any) -> Any:
    return page.locator("#videos > li").first


def made(page: Any, prompt: str) -> Any:
    """The newest video, once it plays."""
    card = first_card(page)
    playwright.expect(card.locator(".what")).to_have_text(prompt)
    card.locator(".screen video").wait_for(timeout=60_000)
    until(page, "document.querySelector('#videos video').readyState >= 2")
    return card


def test_from_a_prompt_to_a_clip_that_goes_on(page: Any) -> None:
    page.fill("#prompt", PROMPT)
    page.get_by_role("button", name="Make", exact=True).click()
    card = made(page, PROMPT)
    assert "Text to video" in card.locator(".facts").inner_text()
    with page.expect_download() as download:
        card.get_by_role("button", name="Download").click()
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"
    card.get_by_role("button", name="Go on").click()
    card.locator(".next textarea").fill("a large blue star")
    card.locator(".next button").click()
    assert "4.1 s" in made(page, "a large blue star").locator(".facts").inner_text()
    first_card(page).get_by_role("button", name="Use in another task").click()
    playwright.expect(page.locator("#task")).to_have_value("frame_prediction")
    playwright.expect(page.locator(".drop video")).to_have_count(1)
    page.fill("#prompt", "")
    page.get_by_role("button", name="Make", exact=True).click()
    made(page, "Frame prediction")


def test_a_picture_that_is_dropped(page: Any, tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(tmp_path / "first.png")
    page.select_option("#task", "image_to_video")
    page.get_by_role("button", name="Make", exact=True).click()
    playwright.expect(page.locator("#said")).to_have_text("First frame: choose a file.")
    page.set_input_files("#image_reference", tmp_path / "first.png")
    page.get_by_role("button", name="Make", exact=True).click()
    made(page, "Image to video")


def test_what_is_wrong_is_said_where_it_is_heard(page: Any) -> None:
    page.get_by_role("button", name="Make", exact=True).click()
    alert = page.get_by_role("alert")
    playwright.expect(alert).to_have_text("Say what the clip shows.")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.fill("#prompt", "x")
    page.locator("summary").click()
    page.fill("#seconds", "1000")
    page.get_by_role("button", name="Make", exact=True).click()
    playwright.expect(alert).to_contain_text("at most 60 s")


def test_by_keyboard_alone(page: Any) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "prompt":
            break
    page.keyboard.type(PROMPT)
    while page.evaluate("document.activeElement.textContent") != "Make":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    made(page, PROMPT)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input,select,textarea,button,canvas,progress')]"
        ".filter(e => e.checkVisibility() && !(e.labels?.length || e.ariaLabel || e.textContent.trim()))"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_on_a_phone(browser: Any, server: Server) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 640}, has_touch=True)
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("#task option", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.fill("#prompt", PROMPT)
    page.get_by_role("button", name="Make", exact=True).tap()
    made(page, PROMPT)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    buttons = "[...document.querySelectorAll('button')].filter(b => b.checkVisibility())"
    small = page.evaluate(f"{buttons}.filter(b => b.offsetHeight < 40).length")
    assert small == 0
    context.close()


def test_history_is_there_again(page: Any, server: Server) -> None:
    server.over(server.create(prompt="a video of before")["id"])
    page.reload()
    playwright.expect(page.locator(".what").first).to_have_text("a video of before")
    card = first_card(page)
    card.get_by_role("button", name="Remove").click()
    playwright.expect(page.locator(".what", has_text="a video of before")).to_have_count(0)


def test_a_mask_painted_over_a_frame(browser: Any, start: Any, editing_model: Path, tmp_path: Path) -> None:
    server = start(editing_model)
    pixels = np.random.default_rng(0).integers(0, 256, (17, 32, 32, 3), dtype=np.uint8)
    film = write_video(Video(pixels, 8.0), tmp_path / "film.mp4")
    context = browser.new_context(viewport={"width": 1100, "height": 1000})
    page = context.new_page()
    page.goto(server.url)
    page.select_option("#task", "inpainting_central")
    page.set_input_files("#video_reference", film)
    canvas = page.locator("#mask")
    until(page, "document.querySelector('#mask').getContext('2d').getImageData(128, 128, 1, 1).data[3] === 255")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.25 * box["height"], steps=10)
    page.mouse.up()
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Space"):  # from the middle
        page.keyboard.press(key)
    page.fill("#prompt", PROMPT)
    page.get_by_role("button", name="Make", exact=True).click()
    made(page, PROMPT)
    (job,) = (server.data / "jobs").iterdir()
    (given,) = job.glob("given-mask*")
    mask = np.asarray(PIL.Image.open(given).convert("L")) > 127  # 256 pixels wide and high
    assert mask[64, 51:153].all() and mask[176, 128]
    assert not mask[120].any() and not mask[:, :25].any() and not mask[220:].any()
    context.close()
