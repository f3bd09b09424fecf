"""`errata data`: fetched whole, gone on with, and held to the checksum of the first time."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from errata.cli.data import Unusable, fetch

URL = "http://data.test/facts.json"
CONTENT = b"[" + b"1," * 5000 + b"2]"


def served(content: bytes, *, ranges: bool = True) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("range"))
        if asked[-1] is None or not ranges:
            return httpx.Response(200, content=content)
        start = int(asked[-1].removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            return httpx.Response(416)
        return httpx.Response(206, content=content[start:])

    asked: list[str | None] = []
    answer.asked = asked  # type: ignore[attr-defined]
    return answer


def got(target: Path, server: Callable[[httpx.Request], httpx.Response], **more: str) -> str:
    return fetch(URL, target, transport=httpx.MockTransport(server), **more)


def test_a_file_comes_with_its_checksum_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "counterfact" / "facts.json"
    digest = got(target, served(CONTENT))
    assert target.read_bytes() == CONTENT
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert (target.parent / "facts.json.sha256").read_text() == f"{digest}  facts.json\n"
    assert not list(target.parent.glob("*.part"))


def test_what_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    target, server = tmp_path / "facts.json", served(CONTENT)
    assert got(target, server) == got(target, server)
    assert server.asked == [None]  # type: ignore[attr-defined]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(tmp_path: Path, *, ranges: bool) -> None:
    (tmp_path / "facts.json.part").write_bytes(CONTENT[:777])
    server = served(CONTENT, ranges=ranges)
    got(tmp_path / "facts.json", server)
    assert (tmp_path / "facts.json").read_bytes() == CONTENT
    assert server.asked == ["bytes=777-"]  # type: ignore[attr-defined]


def test_one_that_lacked_only_its_name_is_whole(tmp_path: Path) -> None:
    (tmp_path / "facts.json.part").write_bytes(CONTENT)
    got(tmp_path / "facts.json", served(CONTENT))
    assert (tmp_path / "facts.json").read_bytes() == CONTENT


def test_other_bytes_than_the_first_time_are_refused_and_lost_ones_fetched(tmp_path: Path) -> None:
    target = tmp_path / "facts.json"
    got(target, served(CONTENT))
    target.unlink()
    with pytest.raises(Unusable, match="sha256"):
        got(target, served(CONTENT + b" "))
    assert not target.exists()
    got(target, served(CONTENT))
    assert target.read_bytes() == CONTENT


def test_a_known_checksum_is_kept_to(tmp_path: Path) -> None:
    with pytest.raises(Unusable):
        got(tmp_path / "facts.json", served(CONTENT), expected="0" * 64)
    assert not (tmp_path / "facts.json").exists()
