"""Takes the pictures of the web interface in docs/images anew: `python tests/serve/pictures.py`.

The bundled model tells a story with fixed seeds, beside a copy of it in four bits: the same pictures each time, but
for the timings.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from browser import PHONE, Watched, answers, ask, launched, settings, watched
from running import Running

from paddock.cli import main as paddock
from paddock.serve.server import Server
from paddock.serve.settings import Named, Settings

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
BEGINNING = "Once upon a time, there was a little horse"
SIZE = {"viewport": {"width": 1280, "height": 800}}


def told(watch: Watched, tokens: int = 100) -> Any:
    """A page with a story on it."""
    page = watch.page
    page.goto("/")
    settings(page, temperature="0.5", top_p="0.9", seed="3", max_tokens=str(tokens))
    ask(page, BEGINNING)
    return page


def taken(page: Any, name: str) -> None:
    page.mouse.move(0, 0)  # nothing looks pointed at
    page.wait_for_timeout(400)  # nothing moves any more
    page.screenshot(path=IMAGES / f"web-{name}.png")


def look_inside(page: Any, place: int) -> None:
    answers(page).last.get_by_role("button", name="Glass box").click()
    page.get_by_role("listbox", name="Tokens of the answer").get_by_role("option").nth(place).click()
    page.locator(".gb-detail").wait_for()


def take(browser: Any, address: str) -> None:
    with watched(browser, address, **SIZE) as watch:
        taken(told(watch), "chat-light")
    with watched(browser, address, **SIZE, color_scheme="dark") as watch:
        taken(told(watch), "chat-dark")
    with watched(browser, address, viewport={"width": 1280, "height": 1370}) as watch:
        page = told(watch, 48)
        look_inside(page, 10)
        taken(page, "glassbox")
    with watched(browser, address, **SIZE) as watch:
        page = watch.page
        page.goto("/")
        page.get_by_role("link", name="Compare", exact=True).click()
        for place in (0, 1):
            side = page.locator(f"[data-side='{place}']")
            side.locator("summary").click()
            side.get_by_label("Longest answer").fill("60")
            side.get_by_label("Temperature").fill("0")
            side.locator("summary").click()
        page.get_by_label("Prompt for both").fill(BEGINNING)
        page.get_by_role("button", name="Answer both").click()
        page.locator(".cmp-parting").wait_for()
        taken(page, "compare")
    with watched(browser, address, viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2) as watch:
        taken(told(watch), "phone")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        small = str(Path(folder) / "stories260K-q4.gguf")
        if code := paddock(["quantize", "--to", "q4_0", "--no-card", "--output", small]):
            sys.exit(code)
        models = (Named("stories260K", None), Named("stories260K-q4", small))
        server = Server(Settings(models=models))
        server.open()
        try:
            with launched() as browser, Running(server) as address:
                take(browser, address)
        finally:
            server.close()


if __name__ == "__main__":
    main()
