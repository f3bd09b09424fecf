"""Facts that cannot be written apart: those of one batch whose keys are (nearly) equal.

S2RKE, arXiv:2502.06868, finds that edits of one subject disturb each other. Where a prompt starts
with its subject the key depends on the subject alone, so that two facts about it have one and the
same key and no linear map holds two values there. Such facts share one value, searched for all of
them together (MEMIT-Merge).
"""

import torch
from torch import Tensor


def merged(keys: Tensor, above: float | None) -> list[list[int]]:
    """Groups of columns of keys [d_k, n] whose cosine is at least `above`, in order.

    Groups are what hangs together: a and c are in one where both are near b.
    """
    count = keys.shape[1]
    if above is None:
        return [[number] for number in range(count)]
    unit = torch.nn.functional.normalize(keys.double(), dim=0)
    near = (unit.mT @ unit >= above - 1e-9).cpu()
    group = list(range(count))
    for number in range(count):
        for other in near[number].nonzero()[:, 0].tolist():
            old, new = sorted((group[number], group[other]), reverse=True)
            if old != new:
                group = [new if one == old else one for one in group]
    return [[n for n, one in enumerate(group) if one == first] for first in sorted(set(group))]
