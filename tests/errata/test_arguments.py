"""What either client refuses before it sends anything: arguments, addresses, its own end."""

import asyncio
from typing import Any

import pytest

from errata import AsyncClient, Client
from errata.errors import BadAddress, BadArgument, ClientClosed, NotErrata, OtherVersion
from tests.errata.answers import FACT, model, order, page, problem
from tests.errata.either import Either, FakeServer, answered

LINE = "snp_1\r\nEvil: 1"
HALF = "\ud800"
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("method", "args", "named"),
    [
        ("model", [""], {}),
        ("model", ["tiny/snapshots"], {}),
        ("model", [".."], {}),
        ("model", [HALF], {}),
        ("model", ["m" * 100_000], {}),
        ("order", [""], {}),
        ("events", ["a/b"], {}),
        ("snapshots", ["../edits"], {}),
        ("remove_model", [""], {}),
        ("model_if_moved", ["m", LINE], {}),
        ("model_if_moved", ["m", ""], {}),
        ("edit", [], {**FACT, "if_match": ""}),
        ("edit", [], {**FACT, "if_match": LINE}),
        ("edit", [], {**FACT, "if_match": "\u00e9"}),
        ("edit", [], {**FACT, "idempotency_key": ""}),
        ("edit", [], {**FACT, "idempotency_key": LINE}),
        ("edit", [], {**FACT, "idempotency_key": "\u00e9"}),
        ("edit", [], {**FACT, "idempotency_key": " "}),
        ("edit", [], {**FACT, "idempotency_key": "k" * 256}),
        ("edit", [], {**FACT, "hparams": {"lr": float("nan")}}),
        ("edit", [], {**FACT, "hparams": {"lr": CIRCLE}}),
        ("edit", [], {**FACT, "subject": HALF}),
        ("edit", [], {**FACT, "timeout": float("nan")}),
        ("edit", [], {**FACT, "timeout": -1}),
        ("edits", [], {"subject": HALF}),
        ("restore", ["snp_1"], {"if_match": ""}),
        ("probe", ["m", HALF], {}),
        ("diff", ["snp_1", HALF], {}),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_cannot_be_sent_is_refused_and_nothing_is(
    ask: Either, method: str, args: list[Any], named: dict[str, Any]
) -> None:
    server = FakeServer()
    with pytest.raises(BadArgument, match="Nothing was sent") as caught:
        ask(server, method, *args, **named)
    assert caught.value.code == "bad-argument"
    assert server.asked == []


@pytest.mark.parametrize(
    ("method", "args", "named"),
    [
        ("model", [5], {}),
        ("edit", [], {**FACT, "hparams": "abc"}),
        ("edit", [], {"requests": ["abc"]}),
        ("edit", [], {**FACT, "hparams": {"lr": {1, 2}}}),
        ("register_model", [["ab"]], {}),
    ],
)
def test_a_wrong_type_is_pythons_own_error(
    ask: Either, method: str, args: list[Any], named: dict[str, Any]
) -> None:
    server = FakeServer()
    with pytest.raises(TypeError):
        ask(server, method, *args, **named)
    assert server.asked == []


@pytest.mark.parametrize("named", [{"timeout": 0}, {"timeout": 1e300}, {"patience": -1.0}])
def test_a_client_has_times_that_are_times(ask: Either, named: dict[str, float]) -> None:
    options: Any = named
    with pytest.raises(BadArgument):
        ask.kind(**options)


def test_a_client_that_is_closed_says_so() -> None:
    client = Client("http://errata.test")
    client.close()
    for use in (client.models, lambda: next(client.events("edt_1"))):
        with pytest.raises(ClientClosed):
            use()

    async def awaited() -> None:
        other = AsyncClient("http://errata.test")
        await other.close()
        with pytest.raises(ClientClosed):
            await other.models()

    asyncio.run(awaited())


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
def test_a_list_that_goes_round_has_an_end(ask: Either, cursors: list[str]) -> None:
    server = FakeServer(*(answered(page(order(), following=each)) for each in cursors))
    with pytest.raises(OtherVersion, match="followed by one before it"):
        ask(server, "edits")


# --- addresses -----------------------------------------------------------------------------------


def test_the_address_comes_from_the_environment(
    ask: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERRATA_URL", "http://elsewhere.test:1/")
    assert ask.kind().base_url == "http://elsewhere.test:1"
    monkeypatch.delenv("ERRATA_URL")
    assert ask.kind().base_url == "http://127.0.0.1:8642"


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8642", "127.0.0.1", "ftp://a", "http://", "http://a:b", "http://[::1"),
        *("http://a:99999", "http://a:0", "http://a:-1", f"http://{'b' * 64}.test"),
        *("http://a/models", "http://a/b/edits/", "http://a?b", "http://a/#b"),
    ],
)
def test_an_address_that_is_none_is_told(ask: Either, url: str) -> None:
    with pytest.raises(BadAddress, match=r"write it like http://"):
        ask.kind(url)


def test_an_address_may_have_the_path_of_a_proxy(ask: Either) -> None:
    server = FakeServer(answered(page(model())), answered(problem(404, "not-found"), 404))
    assert ask(server, "models", url="http://proxy.test/errata/")
    assert server.heads == ["GET /errata/models"]
    with pytest.raises(NotErrata, match="nothing is at /errata/models"):
        ask(server, "models", url="http://proxy.test/errata")


def test_a_proxy_is_not_asked_for_this_machine(
    ask: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    here, there = ask.kind("http://127.0.0.1:1"), ask.kind("http://elsewhere.test")
    assert here._http._mounts == {}
    assert there._http._mounts != {}
