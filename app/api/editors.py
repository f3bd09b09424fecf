"""Editors: the methods that write facts, and the schema of each one's hparams."""

from fastapi import APIRouter

from app.api.schemas import EditorOut, Listed
from editing import knobs
from editing.catalogue import METHODS

router = APIRouter(prefix="/editors", tags=["editors"])


@router.get("")
def list_editors() -> Listed[EditorOut]:
    """List every editor."""
    return Listed(
        data=[
            EditorOut(
                name=method.name,
                title=method.title,
                paper=method.paper,
                summary=method.summary,
                batch=method.batch,
                remembers=method.remembers,
                hparams=knobs.schema(method.name),
            )
            for method in METHODS.values()
        ]
    )
