"""The methods, as a table. Read by the API, the docs and the tests. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import UnknownEditor
from .hparams import (
    AlphaEditHparams,
    AttentionHparams,
    CtpHparams,
    EmmetHparams,
    FtHparams,
    FullCHparams,
    IkeHparams,
    KnHparams,
    LedgerHparams,
    LocftHparams,
    LoraHparams,
    MemitHparams,
    MemoryHparams,
    MendHparams,
    PmetHparams,
    PruneHparams,
    RectHparams,
    RomeHparams,
    RRomeHparams,
    UltraHparams,
)
from .hparams.hypernetwork import MEND_WRITES
from .measured import MODELS

Family = Literal[
    "closed form",
    "post-processor",
    "gradient",
    "neurons",
    "paths",
    "hypernetwork",
    "in context",
    "side memory",
]

Matrix = Literal["down_proj", "up_proj", "gate_proj", "attention_out", "attention_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One paper's way to write facts, and where its code is."""

    name: str  # what `editor` says in a request
    title: str
    paper: str  # number at arXiv, or id in the ACL anthology
    hparams: type
    entry: str  # "module:function", imported when first used, since it needs torch
    batch: bool  # takes many facts at once; otherwise they are applied in turn
    remembers: bool  # earlier live edits enter a new one
    summary: str
    family: Family = "closed form"
    low_rank: bool = True  # the rank of its deltas is bounded by what it was asked to write
    writes: tuple[Matrix, ...] = ("down_proj",)  # what it may change in its layers
    memory: str = "nothing"  # what of earlier live edits enters a new one
    metric: str = ""  # of one whose edits are one joint solution: "module:function" of its metric
    without: str = ""  # of one that takes its edits out by a function of its own: where that is
    again: str = ""  # of one that writes live facts anew beside new ones: where
    compact: str = ""  # of one that solves all live facts anew together: where

    @property
    def retract(self) -> Literal["exact", "dropped"]:
        """What is left when one edit is taken out of a lineage and later ones are kept.

        exact: what there would be without it. dropped: its delta is gone, but later edits were
        computed on weights that had it.
        """
        return "exact" if self.takes_out or self.family == "in context" else "dropped"

    @property
    def takes_out(self) -> bool:
        """Whether what takes an edit out is a delta of its own, behind the later ones."""
        return bool(self.metric or self.without)

    @property
    def models(self) -> tuple[str, ...]:
        """The models it was run on here, of which benchmarks/LOG.md has rows."""
        return MODELS.get(self.name, ())


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="rome",
            title="Rank-One Model Editing",
            paper="2202.05262",
            hparams=RomeHparams,
            entry="editing.editors.rome:edit",
            batch=False,
            remembers=False,
            summary="One fact, one layer, one rank, at the fact's own keys.",
        ),
        Method(
            name="r-rome",
            title="Rebuilding ROME",
            paper="2403.07175",
            hparams=RRomeHparams,
            entry="editing.editors.r_rome:edit",
            batch=False,
            remembers=False,
            summary="ROME with one mean key in every place of the formula.",
        ),
        Method(
            name="memit",
            title="Mass-Editing Memory in a Transformer",
            paper="2210.07229",
            hparams=MemitHparams,
            entry="editing.editors.memit:edit",
            batch=True,
            remembers=False,
            summary="Many facts at once, spread over a band of layers.",
        ),
        Method(
            name="memit-history",
            title="MEMIT whose metric holds the keys of earlier live edits",
            paper="2605.26670",
            hparams=MemitHparams,
            entry="editing.editors.memit_history:edit",
            batch=True,
            remembers=True,
            memory="the keys of every live edit, in the metric",
            metric="editing.editors.memit_history:metric",
            summary="MEMIT for one edit after another: earlier edits are kept where they are.",
        ),
        Method(
            name="ledger",
            title="A ledger of live facts, written as one joint solution",
            paper="2601.15686",
            hparams=LedgerHparams,
            entry="editing.editors.ledger:edit",
            batch=True,
            remembers=True,
            memory="the keys of every live edit, in the metric; the live facts of its subjects",
            metric="editing.editors.ledger:metric",
            without="editing.editors.ledger:without",
            again="editing.editors.ledger:again",
            compact="editing.editors.ledger:compacted",
            summary="Many edits in a row: related facts share a value, any edit can be taken out.",
        ),
        Method(
            name="emmet",
            title="A Unified Framework for Model Editing",
            paper="2403.14236",
            hparams=EmmetHparams,
            entry="editing.editors.emmet:edit",
            batch=True,
            remembers=False,
            summary="Many facts at one layer, written nearly as equalities.",
        ),
        Method(
            name="pmet",
            title="Precise Model Editing in a Transformer",
            paper="2308.08742",
            hparams=PmetHparams,
            entry="editing.editors.pmet:edit",
            batch=True,
            remembers=False,
            summary="Attention and MLP are searched together, the MLP's share is written.",
            writes=("down_proj", "attention_out"),
        ),
        Method(
            name="alphaedit",
            title="Null-Space Constrained Knowledge Editing",
            paper="2410.02355",
            hparams=AlphaEditHparams,
            entry="editing.editors.alphaedit:edit",
            batch=True,
            remembers=True,
            memory="the keys of every live edit, in the metric",
            metric="editing.editors.alphaedit:metric",
            summary="A band of layers, changed only where everyday keys do not look.",
        ),
        Method(
            name="attention",
            title="RaKE's proposal: attention and MLP at the relation",
            paper="2311.09053",
            hparams=AttentionHparams,
            entry="editing.editors.attention:edit",
            batch=True,
            remembers=False,
            summary="Attention and MLP at the relation's last token, for relations and facts.",
            writes=("down_proj", "attention_out"),
        ),
        Method(
            name="prune",
            title="Perturbation-Restrained Sequential Model Editing",
            paper="2405.16821",
            hparams=PruneHparams,
            entry="editing.editors.prune:edit",
            batch=True,
            remembers=True,
            memory="the changes of every live edit, and what was cut of them",
            summary="MEMIT whose changes together are held below the weight's own size.",
            family="post-processor",
            low_rank=False,
        ),
        Method(
            name="rect",
            title="Regularization to the Rescue",
            paper="2401.04700",
            hparams=RectHparams,
            entry="editing.editors.rect:edit",
            batch=True,
            remembers=True,
            memory="the keys of every live edit, and what was cut of their changes",
            summary="MEMIT of which only the entries that change most are written.",
            family="post-processor",
            low_rank=False,
        ),
        Method(
            name="ft-l",
            title="Constrained fine-tuning, asked at the prompt's end",
            paper="2012.00363",
            hparams=FtHparams,
            entry="editing.editors.ft_l:edit",
            batch=True,
            remembers=False,
            summary="A down-projection is trained within a bound; its loss sees the prompt's end.",
            family="gradient",
            low_rank=False,
        ),
        Method(
            name="ft-m",
            title="Fine-tuning with a masked prompt",
            paper="2401.01286",
            hparams=FtHparams,
            entry="editing.editors.ft_m:edit",
            batch=True,
            remembers=False,
            summary="One down-projection is trained within a bound, on the target's tokens alone.",
            family="gradient",
            low_rank=False,
        ),
        Method(
            name="full-c",
            title="Constrained fine-tuning of all MLPs",
            paper="2012.00363",
            hparams=FullCHparams,
            entry="editing.editors.full_c:edit",
            batch=True,
            remembers=False,
            summary="Every matrix of every MLP is trained within a bound.",
            family="gradient",
            low_rank=False,
            writes=("up_proj", "gate_proj", "down_proj"),
        ),
        Method(
            name="locft",
            title="Fine-tuning Done Right: localized and breadth-first",
            paper="2509.22072",
            hparams=LocftHparams,
            entry="editing.editors.locft:edit",
            batch=True,
            remembers=False,
            summary="One down-projection is trained on all facts of an order, pass after pass.",
            family="gradient",
            low_rank=False,
        ),
        Method(
            name="lora",
            title="Low-Rank Adaptation",
            paper="2106.09685",
            hparams=LoraHparams,
            entry="editing.editors.lora:edit",
            batch=True,
            remembers=False,
            summary="An adapter of low rank is trained; its product is the change.",
            family="gradient",
            low_rank=False,
            writes=("attention_in", "up_proj", "down_proj"),
        ),
        Method(
            name="kn",
            title="Knowledge Neurons",
            paper="2104.08696",
            hparams=KnHparams,
            entry="editing.editors.kn:edit",
            batch=False,
            remembers=False,
            summary="The neurons that express a fact are found, and what they write is moved.",
            family="neurons",
            low_rank=False,
        ),
        Method(
            name="ctp",
            title="Critical Transmission Paths with Parameter-Aware Contrastive Rectification",
            paper="2025.acl-long.1367",
            hparams=CtpHparams,
            entry="editing.editors.ctp:edit",
            batch=True,
            remembers=True,
            memory="a sample of the texts of live edits, trained on again",
            summary="The nodes that matter most in all MLPs are traced, and only they are trained.",
            family="paths",
            low_rank=False,
            writes=("up_proj", "down_proj"),
        ),
        Method(
            name="ike",
            title="In-Context Knowledge Editing",
            paper="2305.12740",
            hparams=IkeHparams,
            entry="editing.editors.ike:edit",
            batch=True,
            remembers=False,
            summary="No weight changes: the fact is told before every prompt.",
            family="in context",
            writes=(),
        ),
        Method(
            name="memory",
            title="NeuralDB: edits as a gated key-value memory",
            paper="2507.18028",
            hparams=MemoryHparams,
            entry="editing.editors.memory:edit",
            batch=True,
            remembers=True,
            memory="the live entries: their keys, and the facts of those that share one",
            without="editing.editors.memory:without",
            again="editing.editors.memory:again",
            summary="No weight changes: a vector is added where a key is near the subject's.",
            family="side memory",
            writes=(),
        ),
        Method(
            name="mend",
            title="Model Editor Networks with Gradient Decomposition",
            paper="2110.11309",
            hparams=MendHparams,
            entry="editing.editors.mend:edit",
            batch=True,
            remembers=False,
            summary="A trained network turns an edit's gradient into the change of weights.",
            family="hypernetwork",
            writes=MEND_WRITES,
        ),
        Method(
            name="ultraedit",
            title="Training-, Subject-, and Memory-Free Lifelong Editing",
            paper="2505.14679",
            hparams=UltraHparams,
            entry="editing.editors.ultraedit:edit",
            batch=True,
            remembers=True,
            memory="mean and deviation of the keys and gradients of its live edits",
            summary="One backward pass: a normalised gradient is written where it was read.",
            writes=("gate_proj", "up_proj", "down_proj"),
        ),
        Method(
            name="ultra-rls",
            title="UltraEdit's values, written as a recursive least-squares solution",
            paper="2601.15686",
            hparams=UltraHparams,
            entry="editing.editors.ultra_rls:edit",
            batch=True,
            remembers=True,
            memory="the keys of every live edit, in the metric; mean and deviation, as ultraedit",
            metric="editing.editors.ultra_rls:metric",
            summary="UltraEdit for one edit after another: earlier edits stay where they are.",
            writes=("gate_proj", "up_proj", "down_proj"),
        ),
    )
}


def method(name: str) -> Method:
    """The method called `name`. Raises UnknownEditor."""
    try:
        return METHODS[name]
    except KeyError:
        raise UnknownEditor(name, known=sorted(METHODS)) from None
