"""The rules of the wire: when a request is sent again, and what an answer means. Sends nothing.

A request is sent again, with pauses that grow, while the patience lasts:

    connection refused, no connection in time    always: it surely did not arrive
    connection broken before the answer came     when it may be repeated (see Call.repeatable)
    429, 503                                     always; not before the server's Retry-After is over
    502, 504                                     when it may be repeated
    409 idempotency-key-in-flight                always: our own first try is being answered
    any other answer                             never

The pauses are drawn at random from a growing range, so that many clients of a server that comes
back do not come all at once.
"""

import os
import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx

from errata import given
from errata.calls import Call, Page
from errata.errors import (
    BadAddress,
    BadArgument,
    ClientClosed,
    ConnectionLost,
    ErrataError,
    NoAnswerInTime,
    NotErrata,
    OtherVersion,
    Refused,
    ServerNotRunning,
)
from errata.whereabouts import advice

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8642"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
CONNECTING = 5.0  # seconds that a connection may take
HELD = 10.0  # seconds more than asked for that an answer may be held back

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
CUT_OFF = (httpx.NetworkError, httpx.RemoteProtocolError)
BUSY = frozenset({429, 503})
GATEWAYS = frozenset({502, 504})
IN_FLIGHT = "idempotency-key-in-flight"
HIGHEST_PORT = 65_535
# What a server has at its root. An address may have a path before it, where a proxy takes it away.
ROUTES = frozenset({"models", "edits", "snapshots", "editors", "docs", "openapi.json", "readyz"})
# What the server says of a path or a method that it does not have.
UNKNOWN = frozenset({"not-found", "method-not-allowed"})


class Attempts:
    """The tries of one request. After a failure it says how long to pause, or raises the error."""

    def __init__(self, url: str, patience: float, *, repeatable: bool) -> None:
        self._url = url
        self._repeatable = repeatable
        self._deadline = time.monotonic() + patience
        self._failures = 0

    def after(self, error: httpx.HTTPError) -> float:
        """Give the pause after a request that was not answered. Raises Unreachable."""
        again = isinstance(error, NOT_SENT) or (isinstance(error, CUT_OFF) and self._repeatable)
        pause = self._pause(0.0)
        if not again or pause is None:
            raise unreachable(error, self._url) from error
        return pause

    def refused(self, response: httpx.Response) -> float:
        """Give the pause after an answer that is no success; its body was read. Raises Refused."""
        error = refusal(response, self._url)
        status = response.status_code
        again = (
            status in BUSY or error.code == IN_FLIGHT or (status in GATEWAYS and self._repeatable)
        )
        pause = self._pause(_asked(response)) if again else None
        if pause is None:
            raise error
        return pause

    def _pause(self, at_least: float) -> float | None:
        longest = min(FIRST_PAUSE * 2.0**self._failures, LONGEST_PAUSE)
        self._failures += 1
        pause = at_least + random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        return pause if time.monotonic() + pause < self._deadline else None


class Pages:
    """The pages of a list that was begun, so that a server cannot lead us in a circle."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: set[str] = set()

    def after(self, page: Page[Any]) -> str | None:
        """Say where the next page begins; None after the last. Raises OtherVersion."""
        if page.next in self._seen:
            said = f"says of a page that it is followed by one before it ({page.next})"
            raise OtherVersion(self._url, "a list", said)
        if page.next is not None:
            self._seen.add(page.next)
        return page.next


def answer(call: Call[T], response: httpx.Response, url: str) -> T:
    """Read a good answer. Raises NotErrata or OtherVersion for one that cannot be read."""
    data: Any = None
    if call.bare:
        return call.read(response.content)
    if response.status_code not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        try:
            data = response.json()
        except ValueError as error:
            raise NotErrata(url, _sort(response)) from error
    try:
        return call.read(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"answered in a form that this client does not know ({error!r})"
        raise OtherVersion(url, f"{call.method} {call.path}", said) from error


def good(response: httpx.Response) -> bool:
    """Say whether a call was answered as asked: done, or not changed."""
    return response.is_success or response.status_code == HTTPStatus.NOT_MODIFIED


def refusal(response: httpx.Response, url: str) -> ErrataError:
    """Turn an answer that is no success into an error."""
    request = f"{response.request.method} {response.request.url.path}"
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:
        if response.status_code in BUSY | GATEWAYS:  # a proxy's, and ours may be behind it
            said = response.reason_phrase or "no reason given"
            detail = f"{url} answered {response.status_code} ({said}) to {request}; try again later"
            return Refused({"detail": detail}, status=response.status_code)
        return NotErrata(url, _sort(response))
    if problem["code"] in UNKNOWN:
        if httpx.URL(url).path != "/":
            return NotErrata(
                url,
                f"nothing is at {response.request.url.path}; an address of a "
                "server has a path only behind a proxy that takes it away",
            )
        return OtherVersion(url, request, "does not know what it was asked")
    return Refused(problem, status=response.status_code)


def unreachable(error: httpx.HTTPError, url: str) -> ErrataError:
    """Say why no answer came."""
    if isinstance(error, httpx.ConnectTimeout):
        return ServerNotRunning(url, f"{url} cannot be reached within {CONNECTING:g} s")
    if isinstance(error, httpx.ConnectError):
        if "SSL" in str(error):
            return NotErrata(url, f"no TLS connection can be made: {error}")
        return ServerNotRunning(url, f"no server answers at {url}. {advice(url)}")
    if isinstance(error, httpx.TimeoutException):
        waited = error.request.extensions.get("timeout", {}).get("read") or 0.0
        return NoAnswerInTime(url, waited)
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return NotErrata(url, f"it does not speak HTTP: {error}")
    return ConnectionLost(url, str(error))


def request(
    http: httpx.Client | httpx.AsyncClient, call: Call[Any], timeout: float
) -> httpx.Request:
    """Write the request of a call. Raises BadArgument for what cannot be written, ClientClosed."""
    require_open(http)
    try:
        return http.build_request(
            call.method,
            call.path,
            json=call.json,
            params=call.params,
            headers=call.headers,
            timeout=timeouts(timeout, call.hold),
        )
    # NaN, half of a surrogate pair, a list that holds itself, an id of 100,000 characters.
    except (ValueError, RecursionError, httpx.InvalidURL) as error:
        raise BadArgument("what was given", f"cannot be sent: {error}") from error


def require_open(http: httpx.Client | httpx.AsyncClient) -> None:
    """Raise ClientClosed when it is."""
    if http.is_closed:
        raise ClientClosed


def timeouts(timeout: float, hold: float = 0.0) -> httpx.Timeout:
    """Give the limits of one request, whose answer may be held back for `hold` seconds."""
    read = max(timeout, hold + HELD) if hold else timeout
    return httpx.Timeout(read, connect=min(timeout, CONNECTING))


def options(url: httpx.URL, timeout: float) -> dict[str, Any]:
    """Give the options of the httpx client for an address. No proxy leads to this machine."""
    given.seconds("timeout", timeout, zero=False, endless=False)
    return {"base_url": url, "timeout": timeouts(timeout), "trust_env": not _is_here(url)}


def address(asked: str | None) -> httpx.URL:
    """Read the address of a server: the one given, ERRATA_URL, or here. Raises BadAddress."""
    url = asked or os.environ.get("ERRATA_URL") or DEFAULT_URL
    try:
        made = httpx.URL(url.rstrip("/"))
        made.host.encode("idna")  # as the resolver will; it has no error of its own
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise BadAddress(url) from error
    if made.scheme not in {"http", "https"} or not made.host:
        raise BadAddress(url)
    if made.port is not None and not 0 < made.port <= HIGHEST_PORT:
        raise BadAddress(url, f"ports go from 1 to {HIGHEST_PORT}")
    if made.query or made.fragment:
        raise BadAddress(url, "an address has no ? and no #")
    if wrong := ROUTES.intersection(made.path.split("/")):
        raise BadAddress(url, f"leave out {', '.join(wrong)}: that is a part of the server")
    return made


def _is_here(url: httpx.URL) -> bool:
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"


def _asked(response: httpx.Response) -> float:
    """Read Retry-After: seconds, or a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (at - datetime.now(UTC)).total_seconds()) if at.tzinfo else 0.0


def _sort(response: httpx.Response) -> str:
    """Say in a few words what came instead of an answer of ours."""
    server = response.headers.get("server")
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    by = f" from {server}" if server else ""
    return f"{response.status_code}, {kind}{by}"
