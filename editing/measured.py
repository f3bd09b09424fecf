"""Which models each method was run on here. A test compares it with benchmarks/LOG.md.

Standard library only. By the names of the sources, editing/source.py.
"""

from collections.abc import Mapping

MODELS: Mapping[str, tuple[str, ...]] = {
    "rome": ("smollm2-135m",),
    "r-rome": ("smollm2-135m",),
    "memit": ("gemma3-270m", "qwen2.5-coder-1.5b", "smollm2-135m"),
    "memit-history": ("gemma3-270m", "qwen2.5-coder-1.5b", "smollm2-135m"),
}
