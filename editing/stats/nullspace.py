"""Where everyday keys do not look: the null space of a second moment, as an orthonormal basis."""

import torch
from torch import Tensor

from editing.errors import SingularSystem


def null_basis(C: Tensor, mass: float, threshold: float | None = None) -> Tensor:
    """U [d_k, r]: eigenvectors of C [d_k, d_k] whose eigenvalues are the smallest.

    All below `threshold` where one is given (AlphaEdit, arXiv:2410.02355, section 3); else as many
    as hold at most the share `mass` of C's trace together, whatever the model's scale. Raises
    SingularSystem where C is not finite.
    """
    if not bool(C.isfinite().all()):
        raise SingularSystem(size=C.shape[0], jitter=0.0)
    values, vectors = torch.linalg.eigh(C.double())  # ascending
    if threshold is not None:
        count = int((values < threshold).sum())
    else:
        held = values.clamp(min=0).cumsum(0) / values.clamp(min=0).sum()
        count = int((held <= mass).sum())
    return vectors[:, :count].contiguous()
