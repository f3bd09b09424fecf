"""Questions asked of the model as it is served now."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .model.generate import greedy
from .model.scoring import score
from .run import finish

if TYPE_CHECKING:
    from .model.view import ModelView


def probe(
    view: "ModelView",
    prompts: Sequence[str],
    *,
    targets: Sequence[str] = (),
    top_k: int = 5,
    max_tokens: int = 20,
) -> list[dict[str, object]]:
    """Answer every prompt: greedy completion, likeliest next tokens, log-probabilities of targets.

    logprob is in nats, summed over the target's `n_tokens` tokens. Raises BadRequest.
    """
    completions, first = greedy(view, prompts, max_tokens)
    best = first.softmax(-1).topk(min(top_k, first.shape[-1]), dim=-1)
    scores = finish(score(view, [(p, t) for p in prompts for t in targets]))
    answers: list[dict[str, object]] = []
    for number, prompt in enumerate(prompts):
        tokens = [view.tokenizer.decode([i]) for i in best.indices[number].tolist()]
        mine = scores[number * len(targets) : (number + 1) * len(targets)]
        answers.append(
            {
                "prompt": prompt,
                "completion": completions[number],
                "top": [
                    {"token": token, "p": p}
                    for token, p in zip(tokens, best.values[number].tolist(), strict=True)
                ],
                "targets": [
                    {"text": text, "logprob": s.logprob, "n_tokens": s.tokens}
                    for text, s in zip(targets, mine, strict=True)
                ],
            }
        )
    return answers
