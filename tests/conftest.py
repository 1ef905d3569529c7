"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# One thread: the same sums everywhere, and no fight for cores with the processes tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the device of the tests that can run on any."""
    parser.addoption(
        "--device",
        default="cpu",
        help="device of the tests of post-processing, e.g. cuda (default: cpu)",
    )


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of --device."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state, in whatever order the tests run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Give back the loggers that a run sets up: later tests listen to them."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "lt_det")]
    before = [(one.propagate, one.level, list(one.handlers)) for one in loggers]
    yield
    for one, (propagate, level, handlers) in zip(loggers, before):
        one.propagate, one.handlers = propagate, handlers
        one.setLevel(level)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real COCO / LVIS samples; tests that need it are skipped where it is absent."""
    default = REPOSITORY.parent / "shared" / "data"
    path = Path(os.environ.get("LT_DET_TEST_DATA", default))
    if not path.is_dir():
        pytest.skip(f"real test data not found at {path}; set LT_DET_TEST_DATA to use it")
    return path
