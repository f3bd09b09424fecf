"""Both clients, for tests that say what either does."""

import pytest

from errata import AsyncClient, Client, following, wire
from tests.errata.either import Either


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Either:
    """Asks a server by one client, and by the other."""
    return Either(request.param)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between two tries."""
    monkeypatch.setattr(wire, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(following, "FIRST_LOOK", 0.0)
