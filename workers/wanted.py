"""Work that somebody may ask to end before it is done."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from app.store.db import Database, Tx
from workers.patience import Work, is_away


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Where one looks whether the work in hand is to end.

    `called` says whether somebody has asked for an end since it was asked last; every `poll_s` the
    journal is looked at without being called.
    """

    database: Database
    poll_s: float
    called: Callable[[], bool] = lambda: False

    def until_unwanted(self, work: Work[None], unwanted: Callable[[Tx], bool]) -> Work[bool]:
        """Do the work, and say whether it came to its end; close it once it is not wanted."""
        look_at = time.monotonic() + self.poll_s
        for said in work:
            yield said
            if self.called() or time.monotonic() >= look_at:
                look_at = time.monotonic() + self.poll_s
                if self._says(unwanted):
                    work.close()
                    return False
        return True

    def _says(self, unwanted: Callable[[Tx], bool]) -> bool:
        """Look into the journal; while that is away nobody can have asked there."""
        try:
            with self.database.tx() as tx:
                return unwanted(tx)
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            return False
