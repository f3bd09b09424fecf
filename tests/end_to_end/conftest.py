"""The whole stack with SmolLM2, once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from errata.client import Client
from tests.errata.running import Stack

MODEL = "smollm2-135m"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`errata up` with the real model. Statistics are kept in the user's cache between runs."""
    stack = Stack(tmp_path_factory.mktemp("stack"), "--model", MODEL, ERRATA_THREADS="1")
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    """A client; afterwards the model is as it was at first."""
    with Client(stack.url, timeout=120) as client:
        yield client
        base = next(each for each in client.snapshots(MODEL) if each.kind == "base")
        if client.model(MODEL).head != base.id:
            client.restore(base.id)
