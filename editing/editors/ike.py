"""IKE - the fact is told, not written: it stands before every prompt, and no weight changes.

Zheng, Li, Dong, Fan, Wu, Xu, Chang. "Can We Edit Factual Knowledge by In-Context Learning?",
arXiv:2305.12740. The text put before a prompt names the new fact, and demonstrates its use:

    copy     the fact's own prompt            -> o*
    update   the fact, asked otherwise        -> o*
    retain   something that it does not touch -> what the model says to it

`imagine` is the ICE baseline of RippleEdits (arXiv:2307.12976): "Imagine that <fact>.", alone.

Departures. The paper takes its demonstrations from other edits of a training set, those whose facts
are most alike by a sentence encoder, 32 of them, 1 : 3 : 4. There is no training set here: they are
made of the request alone. Update is the prompt behind a prefix that the model has sampled (and the
request's paraphrases where `contexts.paraphrases` says so), retain is "{subject} is a" and what the
model itself answers, left out where that names target_true. And no "Prompt: " stands before what is
asked: the texts of several edits stand one behind the other, before whatever callers ask.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from editing.delta import PREFACE, Preface
from editing.history import History
from editing.hparams import IkeHparams
from editing.model.generate import greedy
from editing.model.tokens import continued
from editing.outcome import Outcome
from editing.step import Step

from .lessons import prefixes_of

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_ESSENCE = "{} is a"
_RETAINED = 8  # tokens of the answer that is retained
_ENDS = (".", "!", "?", "。")


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: IkeHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Say facts before every prompt. Raises TextTooLong where that leaves no room to ask."""
    lines: list[str] = []
    for number, request in enumerate(requests):
        facts = [_sentence(p.replace("{}", request.subject), o) for p, o in request.texts]
        if hparams.form == "imagine":
            lines += [f"Imagine that {fact}" for fact in facts]
        else:
            lines += [f"New fact: {fact}" for fact in facts]
            lines += _demonstrations(view, request, facts, hparams)
        yield Step("solve", number + 1, len(requests))
    told = Preface("".join(f"{line}\n" for line in lines))
    with view.showing(view.after({PREFACE: told})):
        for request in requests:
            asked = continued(view.tokenizer, view.asked(request.question), request.target_new)
            view.require_fits(len(asked.ids))
    return Outcome({PREFACE: told}, notes={"preface": told.text})


def _demonstrations(
    view: "ModelView", request: "EditRequest", facts: Sequence[str], hparams: IkeHparams
) -> list[str]:
    """How the request's facts are used, a line each."""
    if not hparams.demonstrations:
        return []
    copies = list(facts)
    updates = [f"{lead}. {fact}" for fact in facts for lead in prefixes_of(view, hparams.contexts)]
    if hparams.contexts.paraphrases:
        updates += [_sentence(asked, request.target_new) for asked in request.paraphrases]
    essence = _ESSENCE.replace("{}", request.subject)
    with view.showing(replace(view.current, preface="")):  # so that it depends on no earlier text
        (answer,), _ = greedy(view, [essence], _RETAINED)
    said = answer.strip().split("\n")[0]
    names_the_old = request.target_true is not None and request.target_true in said
    retains = [_sentence(essence, said)] if said and not names_the_old else []
    return copies + updates + retains


def _sentence(question: str, answer: str) -> str:
    said = f"{question.rstrip()} {answer.strip()}"
    return said if said.endswith(_ENDS) else f"{said}."
