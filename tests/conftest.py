"""Fixtures for every package's tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that read it are skipped where it is not."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/data (real ISIC files), not found at {folder.resolve()}")
    return folder.resolve()
