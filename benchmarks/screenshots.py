"""Pictures of the pages for the documentation, from a shop that is being served.

::

    make serve &                                # of the run that `make demo` made
    python -m benchmarks.screenshots            # writes docs/images/*.webp

Needs Chromium (Debian: `apt install chromium`). Where the household's basket is empty, it first looks at one
item and puts another into the basket: serve with a store of its own (`--set gateway.store=sqlite:////tmp/shots.sqlite`).
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

_WAIT_MS = 120_000
_MOST_BYTES = 150_000
# name -> width and height of the window, colour scheme
_SHOTS = {
    "storefront": (1280, 860, "light"),
    "storefront_dark": (1280, 860, "dark"),
    "search": (1280, 860, "light"),
    "under_the_hood": (1280, 860, "light"),
    "operations": (1280, 860, "light"),
    "phone": (390, 844, "light"),
}


def main(argv: list[str] | None = None) -> int:
    """Takes the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description="Pictures of the pages for the documentation.")
    parser.add_argument("--url", default="http://localhost:8080", help="address of the shop")
    parser.add_argument("--user", default="1954", help="the household that shops (default: 1954)")
    parser.add_argument("--query", default="milk", help="what it searches for (default: milk)")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder to write to")
    parser.add_argument("--only", nargs="*", choices=list(_SHOTS), default=list(_SHOTS), help="these alone")
    args = parser.parse_args(argv)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("error: no Chromium is installed; on Debian: apt install chromium", file=sys.stderr)
        return 1
    args.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in args.only:
            width, height, scheme = _SHOTS[name]
            context = browser.new_context(
                base_url=args.url,
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                reduced_motion="reduce",
                locale="en-US",
            )
            context.set_default_timeout(_WAIT_MS)
            page = context.new_page()
            _shop(page, args.user)
            _go(page, name, args.query)
            size = _save(page.screenshot(), args.output / f"{name}.webp")
            print(f"{args.output / name}.webp: {width} x {height}, {size:,} bytes")
            context.close()
        browser.close()
    return 0


def _shop(page: Page, user: str) -> None:
    """Becomes the household, looks at an item and puts another one into the basket."""
    page.goto("/people")
    page.fill("main input[name=user_id]", user)
    page.click("main .by-id button")
    page.wait_for_selector(".shelf")
    if page.query_selector(".count.zero"):
        page.locator(".shelf .card-link").nth(3).click()
        page.wait_for_selector("#panel .item-head")
        page.keyboard.press("Escape")
        _settle(page)
        page.locator(".shelf .add").nth(1).click()
        page.wait_for_selector(".count:not(.zero)")


def _go(page: Page, name: str, query: str) -> None:
    """Brings the window to what is in the picture."""
    page.goto(
        {"search": f"/search?{urllib.parse.urlencode({'q': query})}", "operations": "/operations"}.get(
            name, "/"
        )
    )
    if name == "under_the_hood":
        page.click(".engine summary")
        page.locator(".explain-link").first.click()
        page.wait_for_selector("#engine .explanation")
        page.evaluate("scrollTo(0, 0)")
    _settle(page)
    page.mouse.move(2, 400)


def _settle(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    page.wait_for_function("() => !document.querySelector('[aria-busy]')", timeout=_WAIT_MS)


def _save(png: bytes, path: Path) -> int:
    """Writes a picture as WebP, as good as fits; gives its bytes.

    Raises:
      ValueError: it does not fit.
    """
    image: Any = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (92, 85, 75, 60):
        image.save(path, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= _MOST_BYTES:
            return path.stat().st_size
    raise ValueError(f"{path}: is longer than {_MOST_BYTES} bytes")


if __name__ == "__main__":
    sys.exit(main())
