"""Time the search for z against the plain loop over texts, and against the arithmetic it needs.

Equal steps for both (no early end). Printed: CPU-seconds of each, their ratio, the largest
difference of their deltas, and the floor: steps x rows x positions x (2 forward + 2 backward) x
parameters above the edited layer, plus the needed rows of the head, at the speed of this machine's
matrix product of that shape.

    python -m benchmarks.search --data DIR [--records 8] [--steps 10]
"""

import time

import torch

from benchmarks.common import parser, prepared
from editing.editors.asking import Asking
from editing.editors.zsearch import find_delta
from editing.hparams import Search
from editing.model.tokens import continued, place, place_text
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.walk import Plan, finish, prepare
from tests.editing import plain


def main() -> None:
    """Search every record's delta twice and print the sums."""
    made = parser(__doc__, records=8)
    made.add_argument("--steps", type=int, default=10)
    args, requests, view = prepared(made)
    plan = Plan.of(view, "memit")
    finish(prepare(view, plan))
    prefixes = view.stats.prefixes(plan.hparams.contexts)
    search = Search(steps=args.steps, stop_loss=0.0, rank_one_steps=0, min_probability=0.0)
    layer = plan.hparams.layers[-1]

    slow = fast = floor = furthest = 0.0
    for request in requests:
        began = time.process_time()
        other = plain.search(view, request, layer=layer, search=search, prefixes=prefixes)
        middle = time.process_time()
        work = find_delta(view, [request], layer=layer, search=search, asking=Asking(prefixes))
        found = finish(work)
        slow, fast = slow + middle - began, fast + time.process_time() - middle
        floor += args.steps * flops(view, request, prefixes, layer) / speed(view)
        furthest = max(furthest, float((found.delta[0] - other.delta).abs().max()))
    count = len(requests)
    print(
        f"model {args.model}, layer {layer}, {count} records, {args.steps} steps each, one thread\n"
        f"plain loop  {slow / count:.2f} CPU-s a fact\n"
        f"search      {fast / count:.2f} CPU-s a fact, {slow / fast:.1f} times less, "
        f"max |dz| {furthest:.1e}\n"
        f"floor       {floor / count:.2f} CPU-s a fact, "
        f"the search takes {fast / floor:.2f} times that"
    )


def flops(view: ModelView, request: EditRequest, prefixes: tuple[str, ...], layer: int) -> float:
    """Operations of one step: forward and activation-backward through what cannot be left out."""
    above = sum(p.numel() for block in view.blocks[layer + 1 :] for p in block.parameters())
    head = view.model.get_output_embeddings().weight.numel()
    positions = predicted = 0
    for prefix in ("", *prefixes):
        placed = place(view.tokenizer, request, prefix)
        text = continued(view.tokenizer, placed.text, request.target_new)
        positions += len(text.ids) - 1 - placed.subject
        predicted += len(text.targets)
    essence = place_text(view.tokenizer, "{} is a", request.subject)
    positions += len(essence.ids) - essence.subject
    return 4.0 * (positions * above + (predicted + 1) * head)


def speed(view: ModelView) -> float:
    """Floating-point operations a second of one thread, at the shape of the search's products."""
    wide, narrow = view.facts.d_key, view.facts.d_model
    left, right = torch.randn(42, narrow), torch.randn(narrow, wide)
    left @ right
    began, rounds = time.process_time(), 200
    for _ in range(rounds):
        left @ right
    return rounds * 2 * 42 * narrow * wide / (time.process_time() - began)


if __name__ == "__main__":
    main()
