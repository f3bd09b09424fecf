"""Editors: the methods that write facts, and the schema of each one's hparams."""

from fastapi import APIRouter

from app.api.schemas import EditorOut, Listed
from editing.catalogue import METHODS

router = APIRouter(prefix="/editors", tags=["editors"])


@router.get("")
def list_editors() -> Listed[EditorOut]:
    """List every editor."""
    return Listed(data=[EditorOut.of(method) for method in METHODS.values()])
