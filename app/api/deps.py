"""What endpoints are given: the app's parts, an open transaction, and headers that were read."""

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from redis.asyncio import Redis

from app.errors import BadHeader
from app.metrics import Metrics
from app.queue.notices import Notices
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.db import Database, Tx

MAX_KEY = 255

_ETAG = re.compile(r'"(?P<id>[^"]+)"')
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*(?:=\s*\"?(?P<seconds>\d+(?:\.\d+)?)\"?)?\s*(?:$|[,;])")


@dataclass(frozen=True, slots=True)
class House:
    """The parts of a running app."""

    settings: Settings
    database: Database
    redis: Redis
    notices: Notices
    metrics: Metrics
    blobs: Blobs


def house(request: Request) -> House:
    """Return the parts that `create_app` put together."""
    return request.app.state.house


HouseDep = Annotated[House, Depends(house)]


def transaction(house: HouseDep) -> Generator[Tx]:
    """Open a transaction that is committed before the answer is sent."""
    with house.database.tx() as tx:
        yield tx


# Of scope "function": committed when the endpoint returns, so no answer promises what is not kept.
TxDep = Annotated[Tx, Depends(transaction, scope="function")]


def idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Names this request: repeated with its key, it is done once.",
            json_schema_extra={"minLength": 1, "maxLength": MAX_KEY},
        ),
    ] = None,
) -> str | None:
    """Read the Idempotency-Key."""
    if idempotency_key is None:
        return None
    key = idempotency_key.strip().strip('"')
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise BadHeader("Idempotency-Key", "Send 1 to 255 printable characters.")
    return key


def if_match(
    if_match: Annotated[
        str | None,
        Header(
            description='The head that the order is meant for, quoted: `"snp_..."`.',
            json_schema_extra={"pattern": r'^(\*|"[A-Za-z0-9_]{1,64}")$'},
        ),
    ] = None,
) -> str | None:
    """Read If-Match: the id of one snapshot. `*` asks for nothing that is not always so."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise BadHeader("If-Match", 'Send one snapshot id in quotes, such as "snp_...".')
    return found["id"]


def if_none_match(
    if_none_match: Annotated[
        str | None, Header(description="The head last seen, quoted: 304 while it is the same.")
    ] = None,
) -> frozenset[str]:
    """Read If-None-Match: the ids it names, or `*`. What cannot be read matches nothing."""
    given = (if_none_match or "").strip()
    return frozenset({"*"}) if given == "*" else frozenset(_ETAG.findall(given))


def prefer_wait(
    house: HouseDep,
    prefer: Annotated[
        str | None,
        Header(description="`wait=30`: answer 200 with the settled order if it settles by then."),
    ] = None,
) -> float:
    """Read how long the caller would wait. What cannot be read is no preference (RFC 7240)."""
    found = _WAIT.search((prefer or "").lower())
    if found is None:
        return 0.0
    longest = house.settings.max_wait_s
    return min(float(found["seconds"]), longest) if found["seconds"] else longest


IdempotencyKeyDep = Annotated[str | None, Depends(idempotency_key)]
IfNoneMatchDep = Annotated[frozenset[str], Depends(if_none_match)]
IfMatchDep = Annotated[str | None, Depends(if_match)]
WaitDep = Annotated[float, Depends(prefer_wait)]

After = Annotated[str | None, Query(description="The `next` of the page before.", max_length=128)]
Limit = Annotated[int, Query(ge=1, le=200, description="The most rows of one page.")]
