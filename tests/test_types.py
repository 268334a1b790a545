"""Types, as mypy and an editor show them to a user: user_types.py has right lines and mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import user_types

ROOT = Path(__file__).parent.parent


def test_mypy_finds_the_mistakes_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that mypy does not find is an unused `type: ignore`."""
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    monkeypatch.chdir(ROOT)
    report, _, status = api.run(["--strict", "tests/user_types.py"])
    assert not status, report


@pytest.mark.parametrize("name", ["operators", "models", "programs", "transforms"])
def test_types_are_true(name: str) -> None:
    getattr(user_types, name)()


@pytest.mark.parametrize("mistake", user_types.MISTAKES)
def test_mistakes_raise(mistake: Callable[..., Any]) -> None:
    with pytest.raises((AttributeError, TypeError, ValueError)):
        mistake()
