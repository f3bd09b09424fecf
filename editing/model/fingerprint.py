"""A name for weights that depends on their bits alone."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from editing.delta import Memory, tensors_of


def tensor_digest(tensor: Tensor) -> str:
    """sha256 of a tensor's format, shape and bytes, in row-major order."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def combine(digests: Mapping[str, str]) -> str:
    """The fingerprint of a whole model from its tensors' digests."""
    lines = "\n".join(f"{name} {digests[name]}" for name in sorted(digests))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def text_digest(preface: str) -> dict[str, str]:
    """The digest of a preface under a name that no tensor has; nothing where there is none."""
    if not preface:
        return {}
    return {"(preface)": hashlib.sha256(preface.encode()).hexdigest()}


def memory_digest(memory: Memory) -> str:
    """The digest of all entries of a memory."""
    return combine({part: tensor_digest(tensor) for part, tensor in tensors_of(memory).items()})


def beside(weight: str) -> str:
    """The name of the memory beside a weight among digests; no tensor has it."""
    return f"(memory) {weight}"
