"""Reading the safetensors bytes that we wrote ourselves."""

import json

from safetensors.torch import load
from torch import Tensor

from .errors import BlobUnreadable


def read_safetensors(data: bytes, expected: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and our header of safetensors bytes. Raises BlobUnreadable."""
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        about = json.loads(header["__metadata__"]["errata"])
        found = about["format"]
    except Exception as error:  # safetensors raises its own and built-in errors alike
        raise BlobUnreadable(f"{type(error).__name__}: {error}") from error
    if found != expected:
        raise BlobUnreadable(f"it holds {found!r}, expected {expected!r}")
    return tensors, about
