"""Long lists of ids in a query: each is bound as one array.

A statement takes 65,535 parameters at most, and a model may have more live edits than that.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Text, all_, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

Ids = InstrumentedAttribute[str] | InstrumentedAttribute[str | None]


def among(column: Ids, ids: Iterable[str]) -> ColumnElement[bool]:
    """Say of a column that it is one of these."""
    return column == any_(literal(list(ids), ARRAY(Text)))


def not_among(column: Ids, ids: Iterable[str]) -> ColumnElement[bool]:
    """Say of a column that it is none of these."""
    return column != all_(literal(list(ids), ARRAY(Text)))
