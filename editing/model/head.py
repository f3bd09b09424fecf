"""What families do to the output of their head before they call it logits."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

# By the name of the config's value that says how much.
SHAPINGS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "final_logit_softcapping": lambda logits, cap: torch.tanh(logits / cap) * cap,
    "logit_scale": lambda logits, scale: logits * scale,
    "logits_scaling": lambda logits, scale: logits / scale,
}


def shaped(output: Tensor, config: object, name: str | None) -> Tensor:
    """Logits of the head's output, in its own format, as the family's own code makes them."""
    value = None if name is None else getattr(config, name, None)
    return output if name is None or value is None else SHAPINGS[name](output, value)
