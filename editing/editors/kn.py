"""KN - the neurons that express a fact are found, and what they write is moved.

Dai et al. "Knowledge Neurons in Pretrained Transformers", arXiv:2104.08696. A neuron is an entry of
an MLP's key, the input of the down-projection; its value vector v_j is column j of that matrix.
What it adds to P(o) at the prompt's last token is its integrated gradient (attribution.py). Neurons
above t times a prompt's maximum are its coarse set; those in the coarse sets of a share p of the
prompts are kept, and

    v_j <- v_j - lambda_1 e(o_old) + lambda_2 e(o*)

with e the head's row (the input embedding's, where they are tied) and o_old what the model itself
says, token by token for as many as o* has. The prompts are the request's paraphrases where they may
be used, else prefixed ones.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, cast

from torch import Tensor

from editing.delta import Slices
from editing.errors import NoNeurons, UnsupportedArchitecture
from editing.history import History
from editing.hparams import KnHparams
from editing.model.generate import Decoder
from editing.model.tokens import Continuation, continued, encode, place_text
from editing.outcome import Outcome, joined
from editing.step import Step

from .attribution import attributions
from .lessons import prefixes_of

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: KnHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Move one fact's neurons. Raises NoNeurons or UnsupportedArchitecture."""
    (request,) = requests
    _require_width(view)
    parts: list[Outcome] = []
    for number, (prompt, target) in enumerate(request.texts):
        asked = _questions(view, request, prompt, hparams, alone=number > 0)
        parts.append((yield from _moved(view, request, asked, target, hparams)))
    return joined(parts)


def _moved(
    view: "ModelView",
    request: "EditRequest",
    asked: Sequence[str],
    target: str,
    hparams: KnHparams,
) -> Generator[Step, None, Outcome]:
    """The change for one text of a request; the first of `asked` is the bare one."""
    new = continued(view.tokenizer, asked[0], target).targets
    old = own_answer(view, asked[0], len(new))
    express = [
        continued(view.tokenizer, question, request.target_true)
        if request.target_true is not None and request.perspective == "entity"
        else _with(view, question, old[:1])
        for question in asked
    ]
    scores = yield from attributions(view, express, hparams.layers, hparams.steps)
    chosen, coarse = refined(scores, hparams.threshold, hparams.share)
    if not len(chosen):
        why = (
            f"No neuron expresses the fact about {request.subject!r} in enough of {len(asked)} "
            f"prompts ({coarse} were found in single ones). Lower share or threshold."
        )
        raise NoNeurons(why, subject=request.subject, prompts=len(asked), coarse=coarse)
    usual = 2.0 if len(new) == 1 else 1.0
    less = usual if hparams.old_weight is None else hparams.old_weight
    more = usual if hparams.new_weight is None else hparams.new_weight
    head = _head(view)
    move = more * head[new].float().sum(0) - less * head[old].float().sum(0)  # [d_out]
    deltas: dict[str, Slices] = {}
    for at in chosen[:, 0].unique().tolist():
        columns = chosen[chosen[:, 0] == at, 1]
        name = view.down_proj(hparams.layers[at])
        values = move.repeat(len(columns), 1)
        deltas[name] = Slices(1, columns, values, tuple(view.weight(name).shape))  # pyright: ignore[reportArgumentType]
    notes: dict[str, object] = {
        "prompts": len(asked),
        "coarse": coarse,
        "neurons": [[hparams.layers[at], column] for at, column in chosen.tolist()],
        "replaced": view.tokenizer.decode(old),
        "moved_by": float(move.norm()),
    }
    return Outcome(deltas, notes=notes)


def _questions(
    view: "ModelView", request: "EditRequest", prompt: str, hparams: KnHparams, *, alone: bool
) -> list[str]:
    """The bare prompt, and what it is refined with; paraphrases are of the first prompt only."""
    contexts = hparams.contexts
    if contexts.paraphrases and request.paraphrases and not alone:
        return [prompt.replace("{}", request.subject), *request.paraphrases]
    prefixes = ("", *prefixes_of(view, contexts))
    return [place_text(view.tokenizer, prompt, request.subject, one).text for one in prefixes]


def own_answer(view: "ModelView", question: str, tokens: int) -> list[int]:
    """The ids that the model itself would say, one first choice after another."""
    decoder = Decoder(view, [encode(view.tokenizer, question)], tokens)
    found: list[int] = []
    for _ in range(tokens):
        best = decoder.logits().argmax(-1)
        found.append(int(best))
        decoder.append(best)
    return found


def _with(view: "ModelView", question: str, ids: Sequence[int]) -> Continuation:
    asked = encode(view.tokenizer, question)
    return Continuation([*asked, *ids], len(asked))


def _head(view: "ModelView") -> Tensor:
    """The head's rows [V, d_out]."""
    return cast("Tensor", view.model.get_submodule(view.layout.head).weight).detach()


def _require_width(view: "ModelView") -> None:
    """Raise UnsupportedArchitecture where the head's rows do not fit the value vectors."""
    wide = _head(view).shape[1]
    if wide != view.facts.d_model:
        why = (
            f"kn adds rows of the head, which are {wide} wide, to value vectors, which are "
            f"{view.facts.d_model} wide here."
        )
        raise UnsupportedArchitecture(view.facts.model_type, why=why)


def refined(scores: Tensor, threshold: float, share: float) -> tuple[Tensor, int]:
    """Neurons [n, 2] (layer, column) in the coarse sets of enough prompts, and how many in any.

    scores [prompts, layers, d_key]
    """
    most = scores.amax(dim=(1, 2), keepdim=True)
    coarse = (scores > threshold * most) & (scores > 0)  # [prompts, layers, d_key]
    count = coarse.sum(0)
    # The least count that is that share; a rounding of share * prompts must not ask for one more.
    needed = max(1.0, share * len(scores) - 1e-9)
    return (count >= needed).nonzero(), int((count > 0).sum())
