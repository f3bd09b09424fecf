"""Both clients and the commands, against fake servers, and a stack for those that want one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from errata import AsyncClient, Client, following, wire
from errata.cli.main import app
from tests.errata import answers as said
from tests.errata.either import Either
from tests.errata.running import Stack
from tests.errata.serving import Posted, serving
from tests.guards import LAX


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
    with Client(stack.url) as client:
        client.set_guard("tiny", LAX)
    yield stack
    stack.end()


@pytest.fixture
def answers() -> dict[str, Any]:
    """What a server says, path by path; a test may change it."""
    edt, snp = said.EDT, said.SNP
    plan_or_order = {**said.plan(), **said.order(kind="restore")}
    return {
        "/models": said.page(said.model()),
        "/models/m": said.model(),
        "/models/m/snapshots": said.page(said.EDITED, said.BASE),
        "/models/m/probe": {"data": [said.probe()]},
        "/models/m/compact": said.order(
            kind="compact", report={**said.REPORT, "compact": said.COMPACTED}
        ),
        "/models/m/statistics": said.order(kind="statistics", report=said.STATISTICS),
        "/editors": {"data": [said.editor()]},
        "/suites": {"data": [said.suite()]},
        "/evals": {**said.measurement(), **said.page(said.measurement("running"))},
        f"/evals/{said.EVL}": said.measurement(),
        f"/evals/{said.EVL}/cancel": said.measurement("cancelled"),
        f"/evals/{said.EVL}/rows": {"data": [{"case": 0}, {"case": 1}], "has_more": False},
        "/models/m/forecast": said.forecast(),
        "/edits": {**said.APPLIED, **said.page(said.QUEUED, said.RUNNING, said.APPLIED)},
        f"/edits/{edt}1": said.APPLIED,
        f"/edits/{edt}1/retract": said.order(
            kind="retract", report={**said.REPORT, "retract": {"edit": f"{edt}1", "how": "exact"}}
        ),
        f"/edits/{edt}2/cancel": said.order("cancelled", 2),
        f"/snapshots/{snp}1": said.snapshot(0, label="best"),
        f"/snapshots/{snp}1/diff": said.diff(),
        f"/snapshots/{snp}1/restore": plan_or_order,
        f"/snapshots/{snp}2/restore": plan_or_order,
    }


@pytest.fixture
def server(answers: dict[str, Any]) -> Iterator[tuple[str, Posted]]:
    """A server that says so: its URL, and what is posted to it."""
    with serving(answers) as made:
        yield made


@pytest.fixture
def bodies(server: tuple[str, Posted]) -> list[Any]:
    """What was posted."""
    return server[1].bodies


@pytest.fixture
def paths(server: tuple[str, Posted]) -> list[str]:
    """Where something was posted to."""
    return server[1].paths


@pytest.fixture
def run(server: tuple[str, Posted]) -> Callable[..., Result]:
    """Runs a command against it."""

    def invoke(*argv: str) -> Result:
        return CliRunner().invoke(app, [*argv, "--url", server[0]])

    return invoke
