"""The service on real servers, with one fake: the hands that hold the model."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.store.db import Database
from errata.stack.postgres import Postgres
from tests.app.hands import MODEL, Hands


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


@pytest.fixture
def hands(database: Database) -> Hands:
    """The worker of a model that is registered, loaded and at its base."""
    return Hands(database).register().own().load()


@pytest.fixture
def settings(postgres_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=postgres_url, redis_url=redis_url, data_dir=tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def standing_url(
    postgres_server: Postgres, new_database: Callable[[str], str], migrated_template: str
) -> str:
    return postgres_server.url(new_database(migrated_template))


@pytest.fixture(scope="module")
def standing_hands(standing_url: str) -> Iterator[Hands]:
    database = Database(standing_url)
    yield Hands(database).register().own().load()
    database.close()


@pytest.fixture(scope="module")
def standing(
    standing_url: str, standing_hands: Hands, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """One app for a whole module, for tests that change nothing. Its Redis is never there."""
    folder = tmp_path_factory.mktemp("standing")
    settings = Settings(
        database_url=standing_url,
        redis_url=f"unix:///tmp/{uuid.uuid4().hex}.sock",
        data_dir=folder,
        max_body_bytes=1 << 20,
        model_roots=(folder,),
    )
    with TestClient(create_app(settings)) as client:
        assert standing_hands.model == MODEL
        yield client
