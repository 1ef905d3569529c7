"""Every test starts with no warning given yet."""

from __future__ import annotations

import pytest

from lt_det.data.warn_once import warn_once


@pytest.fixture(autouse=True)
def _no_warning_given_yet() -> None:
    warn_once.cache_clear()
