"""One client or the other, driven in the same way, against a server that is a list of answers."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx

from errata import AsyncClient, Client

URL = "http://errata.test"
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def answered(body: Any, status: int = 200, **headers: str) -> httpx.Response:
    """Make an answer; names of headers are written with underscores."""
    made = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=made)


class FakeServer:
    """Gives its answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if answer.is_closed:  # an answer may be given more than once, and its stream only once
            body = answer.content
            return httpx.Response(answer.status_code, headers=answer.headers, content=body)
        return answer

    def body(self, number: int = 0) -> Any:
        return json.loads(self.asked[number].content)

    @property
    def heads(self) -> list[str]:
        """The requests as `METHOD /path`."""
        return [f"{each.method} {each.url.path}" for each in self.asked]


class Either:
    """A client of one kind. Its methods run to their end; what they iterate comes as a list."""

    def __init__(self, kind: type[Client | AsyncClient]) -> None:
        self.kind = kind

    def __call__(
        self,
        server: Callable[[httpx.Request], httpx.Response],
        method: str,
        *args: Any,
        url: str = URL,
        patience: float = 60.0,
        **named: Any,
    ) -> Any:
        options: Any = {"patience": patience, "transport": httpx.MockTransport(server)}
        if issubclass(self.kind, Client):
            with self.kind(url, **options) as client:
                said = getattr(client, method)(*args, **named)
                return list(said) if isinstance(said, Iterator) else said

        async def run() -> Any:
            async with AsyncClient(url, **options) as client:
                said = getattr(client, method)(*args, **named)
                if isinstance(said, AsyncIterator):
                    return [each async for each in said]
                return await said if inspect.isawaitable(said) else said

        return asyncio.run(run())
