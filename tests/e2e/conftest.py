"""A browser that the tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.browser import TAP, Page, start_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = start_browser()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    browser.get_log("browser")
    browser.get_log("performance")
    yield Page(browser)
    browser.get("about:blank")


@pytest.fixture
def tapped(page: Page) -> Iterator[Page]:
    """A page whose sound the test can hear."""
    tap = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TAP})
    yield page
    page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", tap)
