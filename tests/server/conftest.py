from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from plugins.browser import Browser

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium and chromedriver, but this run may not do without", pytrace=False)
        pytest.skip("no chromium and chromedriver")
    one = Browser()
    yield one
    one.quit()
