"""Evals: measurements that take many steps, and can be stopped and gone on with.

    records -> cases -> rows, one case at a time -> summary -> pictures

One file = one suite: how one case becomes rows, and how rows become a summary. What a case is comes
from the readers of editing.datasets; the table of suites is editing.evals.catalogue, which needs no
torch. An eval never changes the model: its edits are states on the side, and at every step the
model serves its head.
"""
