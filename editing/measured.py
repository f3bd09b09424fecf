"""Which models each method was run on here. A test compares it with benchmarks/LOG.md.

Standard library only. By the names of the sources, editing/source.py.
"""

from collections.abc import Mapping

MODELS: Mapping[str, tuple[str, ...]] = {
    "rome": ("smollm2-135m",),
    "r-rome": ("smollm2-135m",),
    "memit": ("gemma3-270m", "qwen2.5-coder-1.5b", "smollm2-135m"),
    "memit-history": ("gemma3-270m", "qwen2.5-coder-1.5b", "smollm2-135m"),
    "emmet": ("smollm2-135m",),
    "pmet": ("smollm2-135m",),
    "alphaedit": ("smollm2-135m",),
    "prune": ("smollm2-135m",),
    "rect": ("smollm2-135m",),
    "attention": ("smollm2-135m",),
    "ike": ("smollm2-135m",),
    "ft-l": ("smollm2-135m",),
    "ft-m": ("smollm2-135m",),
    "lora": ("smollm2-135m",),
    "ctp": ("smollm2-135m",),
}
