"""Both clients, for tests that say what either does, and a stack, for those that want one."""

from collections.abc import Iterator

import pytest

from errata import AsyncClient, Client, following, wire
from tests.errata.either import Either
from tests.errata.running import Stack


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Either:
    """Asks a server by one client, and by the other."""
    return Either(request.param)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between two tries."""
    monkeypatch.setattr(wire, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(following, "FIRST_LOOK", 0.0)


@pytest.fixture(scope="package")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole stack that serves a tiny model called `tiny`. Whoever hurts it lets it recover."""
    from tests.tiny import save_tiny  # noqa: PLC0415 - it loads torch, and few tests need it

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    save_tiny(folder, "llama")
    cache = str(tmp_path_factory.mktemp("cache"))
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        *("--model", str(folder)),
        ERRATA_CACHE_DIR=cache,
        ERRATA_THREADS="1",
    )
    stack.start()
    yield stack
    stack.end()
