"""Causal tracing (ROME, arXiv:2202.05262, section 2.1; RaKE corrupts relations, arXiv:2311.09053).

    clean      the prompt as it is: p(o)
    corrupted  noise on the embeddings of the subject's tokens, or the relation's, in ten copies
    restored   the corrupted copies, where one thing at one token and layer is as in the clean run

    TE = p_clean(o) - p_corrupted(o)        IE(l, t) = p_restored(o) - p_corrupted(o)

spans.py: which tokens; noise.py: how loud; effects.py: the grid of all layers and tokens.
"""
