"""Which models each method was run on here. A test compares it with benchmarks/LOG.md.

Standard library only. By the names of the sources, editing/source.py.
"""

from collections.abc import Mapping

MODELS: Mapping[str, tuple[str, ...]] = {
    "rome": ("gemma3-270m", "smollm2-135m"),
    "r-rome": ("gemma3-270m", "smollm2-135m"),
    "memit": ("gemma3-270m", "qwen2.5-coder-1.5b", "smollm2-135m"),
    "memit-history": ("gemma3-270m", "qwen2.5-coder-1.5b", "smollm2-135m"),
    "emmet": ("gemma3-270m", "smollm2-135m"),
    "pmet": ("gemma3-270m", "smollm2-135m"),
    "alphaedit": ("gemma3-270m", "smollm2-135m"),
    "attention": ("gemma3-270m", "smollm2-135m"),
    "prune": ("gemma3-270m", "smollm2-135m"),
    "rect": ("gemma3-270m", "smollm2-135m"),
    "ft-l": ("smollm2-135m",),
    "ft-m": ("smollm2-135m",),
    "full-c": ("smollm2-135m",),
    "locft": ("smollm2-135m",),
    "lora": ("smollm2-135m",),
    "kn": ("smollm2-135m",),
    "ctp": ("smollm2-135m",),
    "mend": ("smollm2-135m",),
    "ike": ("smollm2-135m",),
    "ledger": ("smollm2-135m",),
    "memory": ("smollm2-135m",),
    "ultraedit": ("smollm2-135m",),
    "ultra-rls": ("smollm2-135m",),
}
