"""create_app: the parts, put together. Wiring, nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from operator import attrgetter

from fastapi import Depends, FastAPI
from redis.asyncio import Redis

from app import logs
from app.api import (
    editors,
    edits,
    evals,
    forecasts,
    health,
    models,
    openapi,
    probes,
    problems,
    snapshots,
)
from app.api.deps import House
from app.api.doors import only_known_parameters
from app.api.limits import BodyLimit, Counted
from app.metrics import Metrics
from app.queue.notices import Notices
from app.queue.outbox import Relay
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.cleanup import Cleaner
from app.store.db import Database


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the service. Without settings, those of the environment."""
    settings = settings or Settings()
    logs.configure(settings)
    app = FastAPI(
        title="Errata",
        summary="Corrects facts inside a language model.",
        version=openapi.version(),
        lifespan=_lifespan,
        generate_unique_id_function=attrgetter("name"),  # what a generated client calls them
        dependencies=[Depends(only_known_parameters)],
    )
    app.state.house = house = _house(settings)
    for room in (edits, models, probes, forecasts, snapshots, editors, evals, health):
        app.include_router(room.router)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(Counted, metrics=house.metrics)
    return app


def _house(settings: Settings) -> House:
    database = Database(settings.database_url)
    # A blocking read lasts up to two seconds; a dead connection is noticed soon after.
    redis: Redis = Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=2)
    return House(
        settings=settings,
        database=database,
        redis=redis,
        notices=Notices(redis),
        metrics=Metrics(database),
        blobs=Blobs(database, settings.blobs, small=settings.small_blob_bytes),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    house: House = app.state.house
    relay = Relay(house.database, house.settings.redis_url)
    cleaner = Cleaner(house.database, house.settings)
    relay.start()
    cleaner.start()
    listening = asyncio.create_task(house.notices.run())
    try:
        yield
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        cleaner.stop()
        await asyncio.to_thread(relay.stop)
        await house.redis.aclose()
        house.database.close()
