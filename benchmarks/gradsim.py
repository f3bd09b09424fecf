"""GradSim of many facts with each other, against gradients that are formed: seconds and memory.

Facts are CounterFact's prompts with their new targets. All of them are compared from activations
and output gradients. The first few are compared as well by materialised gradients: one backward
pass a fact, all parameters in one row, a block of rows held at a time; the facts behind a block are
run anew for each block, since their gradients could not be kept. What that costs for all facts
follows from what one gradient and one product cost.

    python -m benchmarks.gradsim --data DIR [--records 200] [--measured 16] [--block 8]
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.common import parser, prepared
from benchmarks.memory import forget_peak, peak, resident
from editing.metrics.gradsim import Fact, gram
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.run import finish

_CHUNK = 1 << 16  # parameters whose products are added up in float32


@dataclass(slots=True)
class Materialised:
    """Inner products [n, n] of gradients that are formed, and what forming and comparing took."""

    view: ModelView
    facts: Sequence[Fact]
    block: int
    seconds: dict[str, float] = field(default_factory=lambda: {"gradients": 0.0, "products": 0.0})
    counts: dict[str, int] = field(default_factory=lambda: {"gradients": 0, "products": 0})

    def run(self) -> Tensor:
        """All products, block by block."""
        parameters = list(self.view.model.parameters())
        size = sum(parameter.numel() for parameter in parameters)
        count = len(self.facts)
        found = torch.zeros(count, count, dtype=torch.float64)
        rows = torch.empty(min(self.block, count), size)
        for parameter in parameters:
            parameter.requires_grad_()
        try:
            for start in range(0, count, self.block):
                stop = min(start + self.block, count)
                held = rows[: stop - start]
                for at in range(start, stop):
                    self._gradient(self.facts[at], parameters, held[at - start])
                found[start:stop, start:stop] = self._products(held, held)
                one = torch.empty(1, size) if stop < count else rows[:0]
                for at in range(stop, count):
                    self._gradient(self.facts[at], parameters, one[0])
                    found[start:stop, at : at + 1] = self._products(held, one)
        finally:
            for parameter in parameters:
                parameter.requires_grad_(requires_grad=False)
        return found.triu() + found.triu(1).mT

    def seconds_for(self, facts: int) -> float:
        """CPU-seconds for so many facts in the same blocks."""
        blocks = -(-facts // self.block)
        gradients = sum(facts - number * self.block for number in range(blocks))
        products = facts * (facts + 1) / 2
        needed = {"gradients": gradients, "products": products}
        return sum(self.seconds[n] / self.counts[n] * needed[n] for n in needed)

    def _gradient(self, fact: Fact, parameters: Sequence[Tensor], into: Tensor) -> None:
        began = time.process_time()
        row = continued(self.view.tokenizer, *fact)
        ids = torch.tensor([row.ids[:-1]])
        with torch.enable_grad():
            logits = self.view.model(input_ids=ids, use_cache=False).logits[0, row.start - 1 :]
            logprobs = logits.float().log_softmax(-1)
            logprob = logprobs.gather(1, torch.tensor(row.targets)[:, None]).sum()
            given = torch.autograd.grad(logprob, list(parameters), allow_unused=True)
        at = 0
        for parameter, gradient in zip(parameters, given, strict=True):
            place = into[at : at + parameter.numel()]
            place.zero_() if gradient is None else place.copy_(gradient.flatten())
            at += parameter.numel()
        self._count("gradients", began, 1)

    def _products(self, one: Tensor, other: Tensor) -> Tensor:
        began = time.process_time()
        found = torch.zeros(len(one), len(other), dtype=torch.float64)
        for start in range(0, one.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            found += (one[:, part] @ other[:, part].mT).double()
        pairs = len(one) * len(other) if one is not other else len(one) * (len(one) + 1) // 2
        self._count("products", began, pairs)
        return found

    def _count(self, name: str, began: float, pieces: int) -> None:
        self.seconds[name] += time.process_time() - began
        self.counts[name] += pieces


def main() -> None:
    """Compare both ways, and print a table."""
    made = parser(__doc__, records=200)
    made.add_argument("--measured", type=int, default=16, help="facts with materialised gradients")
    made.add_argument("--block", type=int, default=8, help="gradients that are held")
    args, requests, view = prepared(made)
    facts = [(request.question, request.target_new) for request in requests]
    few = facts[: args.measured]
    finish(gram(view, facts[:2]))  # what is done once only

    start, began = _begin()
    found = finish(gram(view, facts))
    ours, ours_memory = time.process_time() - began, peak() - start
    began = time.process_time()
    finish(gram(view, few))
    ours_few = time.process_time() - began

    start, began = _begin()
    other = Materialised(view, few, args.block)
    products = other.run()
    theirs, theirs_memory = time.process_time() - began, peak() - start
    norms = products.diagonal().sqrt()
    cosines = products / (norms[:, None] * norms)
    off = float((found.cosine[: len(few), : len(few)] - cosines).abs().max())
    whole = other.seconds_for(len(facts))
    once = other.seconds["gradients"] / other.counts["gradients"] * len(facts)

    print(
        f"model {args.model}, one thread\n\n"
        f"| | facts | CPU-s | MiB beside the model |\n|---|---|---|---|\n"
        f"| from activations | {len(facts)} | {ours:.1f} | {ours_memory:.0f} |\n"
        f"| from activations | {len(few)} | {ours_few:.1f} | |\n"
        f"| materialised, {args.block} at a time | {len(few)} | {theirs:.1f} | "
        f"{theirs_memory:.0f} |\n"
        f"| materialised, worked out | {len(facts)} | {whole:.0f} | {theirs_memory:.0f} |\n\n"
        f"largest difference of a cosine {off:.1e}; {theirs / ours_few:.1f} times less CPU for "
        f"{len(few)} facts, {whole / ours:.1f} times for {len(facts)} "
        f"({once / ours:.1f} were every gradient formed only once and compared for nothing); "
        f"memory {ours_memory / theirs_memory:.3f} of theirs"
    )


def _begin() -> tuple[float, float]:
    forget_peak()
    return resident(), time.process_time()


if __name__ == "__main__":
    main()
