"""Whether the service lives, whether it can work, and its numbers."""

import asyncio
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.api.deps import House, HouseDep
from app.api.problems import problem
from app.store.migrate import at_head

NOT_READY = "not-ready"
PATIENCE_S = 3.0

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def alive() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=dict[str, Any],
    responses={503: {"description": "Something it needs is away.", "content": {}}},
)
async def ready(house: HouseDep) -> JSONResponse:
    """Say whether Postgres and Redis answer and the schema is the newest.

    A model's readiness is its own: GET /models/{id}.
    """
    database, redis = await asyncio.gather(_postgres(house), _redis(house))
    checks = {**database, "redis": redis}
    if all(said == "ok" for said in checks.values()):
        return JSONResponse({"status": "ready", "checks": checks})
    wrong = ", ".join(name for name, said in checks.items() if said != "ok")
    return problem(
        503,
        NOT_READY,
        f"Not ready: {wrong}. `checks` says why. Start what is missing; for the schema, run the "
        "migrations.",
        {"checks": checks},
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(house: HouseDep) -> Response:
    """Give the numbers in Prometheus' text form."""
    return Response(house.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _postgres(house: House) -> dict[str, str]:
    """Ask Postgres, and do not wait for one that neither answers nor goes away."""
    asked = partial(_database, house)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await to_thread.run_sync(asked, abandon_on_cancel=True)
    except TimeoutError:
        return {"postgres": f"no answer in {PATIENCE_S:g} s", "migrations": "unknown"}


def _database(house: House) -> dict[str, str]:
    try:
        with house.database.tx() as tx:
            tx.session.execute(text("SELECT 1"))
        newest = at_head(house.settings.database_url)
    except SQLAlchemyError as error:
        return {"postgres": str(error).splitlines()[0], "migrations": "unknown"}
    return {"postgres": "ok", "migrations": "ok" if newest else "not at head"}


async def _redis(house: House) -> str:
    try:
        await asyncio.wait_for(house.redis.ping(), PATIENCE_S)
    except (RedisError, OSError, TimeoutError) as error:
        return str(error) or "no answer"
    return "ok"
