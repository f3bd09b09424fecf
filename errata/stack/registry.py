"""The models of the command line, registered before the API is up: their workers need not wait.

A worker spends seconds on loading torch, and the API one or two on starting: side by side on two
cores, the model answers that much sooner.
"""

from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import structlog

from app.errors import ModelNotFound, ServiceError
from app.services import models
from app.store.db import Database
from editing.errors import EditingError
from errata.stack.errors import StackError
from errata.stack.parts import local_path


def register(database_url: str, sources: Sequence[str], roots: Sequence[Path]) -> list[str]:
    """Register those sources that are not models yet; give the ids of all. Raises StackError."""
    # What the services log is for the API's log; here the supervisor says what happens.
    structlog.configure(processors=[_dropped])
    database = Database(database_url, pool_size=1)
    try:
        return [_registered(database, source, tuple(roots)) for source in sources]
    finally:
        database.close()


def _registered(database: Database, source: str, roots: tuple[Path, ...]) -> str:
    try:
        with database.tx() as tx:
            try:
                return models.get(tx, source).id
            except ModelNotFound:
                path = local_path(source)
                model, _ = models.register(tx, str(path or source), model_id=None, roots=roots)
                return model.id
    except (ServiceError, EditingError) as error:
        message = f"the model {source!r} cannot be registered: {error}"
        raise StackError(message) from error


def _dropped(_logger: object, _method: str, _event: MutableMapping[str, Any]) -> NoReturn:
    raise structlog.DropEvent
