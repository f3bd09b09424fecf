"""How a client asks: again when it may, and with one kind of error when it may not."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from errata.errors import ErrataError, ServerNotRunning

# About three seconds together: enough for `errata up` to bring a fallen API back.
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
LONGEST_PAUSE = 30.0
BUSY = frozenset({429, 503})
# One of our own keys is still being answered: the first request got through after all.
UNANSWERED = "idempotency-key-in-flight"
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
CUT_OFF = (*NOT_SENT, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class Transport:
    """An httpx client with a base URL, retries and problem+json turned into errors."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float,
        pauses: Iterable[float] = PAUSES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._pauses = tuple(pauses)
        self.http = httpx.Client(
            base_url=self.base_url,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            transport=transport,
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        """Send a request; repeat it after a broken connection, a 429 and a 503.

        One that is not `repeatable` is sent again only when it surely never arrived.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        for pause in (*self._pauses, None):
            try:
                response = self.http.request(
                    method, path, json=json, params=given, headers=dict(headers or {})
                )
            except CUT_OFF as error:
                if pause is None or not (repeatable or isinstance(error, NOT_SENT)):
                    raise ServerNotRunning(self.base_url) from error
            except httpx.HTTPError as error:
                raise _failed(error, self.base_url) from error
            else:
                if response.is_success:
                    return response
                problem = problem_of(response)
                if pause is None or not _worth_repeating(response, problem):
                    raise problem
                time.sleep(_pause_asked(response, pause))
                continue
            time.sleep(pause)
        raise AssertionError  # the last round always returns or raises

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


def problem_of(response: httpx.Response) -> ErrataError:
    """Turn an answer that is no success into an error."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        text = response.text.strip()[:200] or response.reason_phrase
        return ErrataError(f"{response.status_code}: {text}", status=response.status_code)
    detail = problem.get("detail") or problem.get("title") or response.reason_phrase
    return ErrataError(
        str(detail), code=problem.get("code"), status=response.status_code, problem=problem
    )


def _worth_repeating(response: httpx.Response, problem: ErrataError) -> bool:
    return response.status_code in BUSY or problem.code == UNANSWERED


def _pause_asked(response: httpx.Response, pause: float) -> float:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else pause


def _failed(error: httpx.HTTPError, url: str) -> ErrataError:
    if isinstance(error, httpx.TimeoutException):
        return ErrataError(f"{url} did not answer in time; try again", code="timeout")
    return ErrataError(f"{url}: {error}", code="transport")
