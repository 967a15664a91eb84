"""A real browser, Debian's Chromium, for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "Debian's chromium and chromium-driver are not installed: the page was not looked at in a browser"
PHONE, DESK = 390, 1280
"""The widths of a phone and of a window on a desk, in CSS pixels."""
HEIGHT = 844
AA_CONTRAST = 4.5
"""The minimum contrast of text in WCAG 2, level AA."""


@contextmanager
def open_browser(profile: Path) -> Iterator[Any]:
    """Start a browser with a new profile in the folder ``profile``. Skips the test if none is installed."""
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip(MISSING)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def show(browser: Any, address: str, width: int, scheme: str = "light", *, scale: int = 1) -> None:
    """Open a page in a window of this width. ``scale`` is the number of screen pixels of a CSS pixel."""
    size = {"width": width, "height": HEIGHT, "deviceScaleFactor": scale, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(address)


def page_width(browser: Any) -> int:
    """Return the width of the whole page with all details opened. It scrolls if it is wider than the
    window."""
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    return int(browser.execute_script("return document.documentElement.scrollWidth"))


# Contrast of every visible text against the nearest opaque background, by the formula of WCAG 2.
CONTRAST = """
const rgb = c => (c.match(/[\\d.]+/g) || []).map(Number);
const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = c => { const [r, g, b] = rgb(c).map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (rgb(c).length === 3 || rgb(c)[3] === 1) return c; } return 'rgb(255, 255, 255)'; };
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility() || ['title', 'desc', 'STYLE'].includes(element.tagName)) continue;
  const style = getComputedStyle(element), svg = element.closest('svg');
  const [a, b] = [light(svg ? style.fill : style.color), light(paper(element))];
  found.push({text: text.slice(0, 40), contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)});
}
return found;
"""
