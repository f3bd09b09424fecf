"""Facts that the tiny models know, and short ways to run the core on them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editing.catalogue import METHODS
from editing.delta import LowRank
from editing.history import History
from editing.hparams import UltraHparams
from editing.model.tokens import encode
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest, Neighbor
from editing.run import finish
from editing.walk import Plan, edit, prepare

from .nets import lend_net

SPORT = EditRequest(
    subject="LeBron James",
    prompt="{} plays the sport of",
    target_new="tennis",
    target_true="basketball",
    paraphrases=("Therefore we know. LeBron James plays the sport of",),
    neighborhood=(Neighbor(prompt="Kobe Bryant plays the sport of", target="basketball"),),
)
CAPITAL = EditRequest(
    subject="Italy", prompt="The capital of {} is", target_new="Madrid", target_true="Rome"
)
OTHER_SPORT = EditRequest(
    subject="Kobe Bryant",
    prompt="{} plays the sport of",
    target_new="football",
    target_true="basketball",
)
UNREACHABLE = EditRequest(
    subject="Spain", prompt="The capital of {} is", target_new="wqx jjz 東 qqq wqx jjz"
)

Overrides = Mapping[str, object]


# What a tiny model of five layers needs: a band with a gap, so that the walk upward is seen; few
# contexts where the default is 20; a rate at which a few steps are enough.
_BAND: Overrides = {"layers": [1, 3]}
_FEW: Overrides = {"contexts.prefixes": 5}
_STEP: Overrides = {"matrices": "mlp", "eta": 0.02, "layers": [2, 3]}
_FAST: Overrides = {"epochs": 12, "lr": 0.01}
OVERRIDES: Mapping[str, Overrides] = {
    "rome": _FEW,
    "r-rome": _FEW,
    "memit": _BAND,
    "memit-history": _BAND,
    "ledger": _BAND,
    "ike": {"demonstrations": False},  # there is room for 128 tokens
    "memory": {},
    "emmet": {"layers": [2]},
    "pmet": _BAND,
    "alphaedit": {**_BAND, "null_mass": 0.3},
    "attention": _BAND,
    "prune": _BAND,
    "rect": _BAND,
    "ctp": {"online.lr": 5e-3, "online.clamp": 100},
    "mend": {},
    "ft-l": {**_FAST, "bound": 0.1},
    "ft-m": {**_FAST, "bound": 0.1},
    "full-c": {**_FAST, "lr": 2e-3, "bound": 0.05, "stop_loss": 0.2},
    "locft": {**_FAST, "end_token": False},
    "lora": {**_BAND, **_FAST, "stop_loss": 0.3},
    "kn": {"contexts.prefixes": 2},
    "ultraedit": _STEP,
    "ultra-rls": _STEP,
}


def overrides_for(editor: str) -> Overrides:
    """What the tests run a method with."""
    return OVERRIDES.get(editor, {})


def searches(editor: str) -> bool:
    """Whether a method finds a vector by search and writes it at keys, by a closed form."""
    return {"search", "statistics"} <= set(METHODS[editor].hparams.__dataclass_fields__)


def keyed(editor: str) -> bool:
    """Whether a method keeps the keys that it wrote at."""
    return searches(editor) or METHODS[editor].hparams is UltraHparams


def declared(view: ModelView, editor: str) -> set[str]:
    """The weights that a method may change."""
    layers = getattr(Plan.of(view, editor, overrides_for(editor)).hparams, "layers", ())
    kinds = METHODS[editor].writes
    return {name for layer in layers for kind in kinds for name in view.matrices(layer, kind)}


def lend(view: ModelView, editor: str) -> None:
    """Give an editor what no preparation collects: a network that was trained elsewhere."""
    if METHODS[editor].family == "hypernetwork":
        lend_net(view)


def planned(view: ModelView, editor: str, overrides: Overrides | None = None) -> Plan:
    """A plan for which everything is at hand."""
    lend(view, editor)
    chosen = overrides_for(editor) if overrides is None else overrides
    plan = Plan.of(view, editor, chosen)
    finish(prepare(view, plan))
    return plan


def run(
    view: ModelView,
    editor: str,
    requests: Sequence[EditRequest],
    overrides: Overrides | None = None,
    history: History | None = None,
) -> Outcome:
    """An edit from statistics to outcome."""
    return finish(edit(view, planned(view, editor, overrides), requests, history))


@torch.no_grad()
def logits_of(view: ModelView, text: str) -> Tensor:
    """Logits [S, vocabulary] of a text as the model serves now, by the model's own forward."""
    ids = torch.tensor([encode(view.tokenizer, text)])
    return view.model(input_ids=ids).logits[0]


def hooked(view: ModelView) -> list[str]:
    """Modules on which some hook was left."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        name
        for name, module in view.model.named_modules()
        if any(getattr(module, kind) for kind in kinds)
    ]


def changed(view: ModelView, before: Mapping[str, Tensor]) -> set[str]:
    """Parameters whose bits differ from a copy."""
    return {
        name for name, p in view.model.named_parameters() if not torch.equal(p.data, before[name])
    }


def copied(view: ModelView) -> dict[str, Tensor]:
    """The bits of all parameters."""
    return {name: p.data.clone() for name, p in view.model.named_parameters()}


def nudge(view: ModelView, layer: int = 1, size: float = 0.1, seed: int = 0) -> dict[str, LowRank]:
    """A small random change of one layer."""
    chance = torch.Generator().manual_seed(seed)
    left = size * torch.randn(view.facts.d_model, 2, generator=chance)
    return {
        view.down_proj(layer): LowRank(left, torch.randn(2, view.facts.d_key, generator=chance))
    }
