"""Print how far the key of a bare prompt lies from the same subject's keys behind prefixes.

For records of CounterFact: cosine between the bare prompt's key and the mean of the prefixed keys
at the lowest layer a band edit writes, by where the subject ends.

    python -m benchmarks.keys --data DIR [--records 64]
"""

from collections import defaultdict

import torch

from benchmarks.common import parser, prepared
from editing.editors.keys import KeyReader
from editing.model.tokens import place
from editing.walk import Plan, finish, prepare


def main() -> None:
    """Read the keys and print a table."""
    args, requests, view = prepared(parser(__doc__, records=64))
    plan = Plan.of(view, "memit")
    finish(prepare(view, plan))
    prefixes = view.stats.prefixes(plan.hparams.contexts)
    reader = KeyReader(view, requests, prefixes, plan.hparams.layers)
    finish(reader.start())
    keys = reader.read().keys.view(-1, len(requests), len(prefixes) + 1)  # [d_k, facts, contexts]
    cosines = torch.cosine_similarity(keys[:, :, 0], keys[:, :, 1:].mean(2), dim=0)
    groups: dict[str, list[float]] = defaultdict(list)
    for request, cosine in zip(requests, cosines.tolist(), strict=True):
        at = place(view.tokenizer, request, "").subject
        name = f"ends at position {at}" if at < 4 else "ends later"  # noqa: PLR2004
        groups[name].append(cosine)
    starts = sum(request.prompt.startswith("{}") for request in requests)
    print(
        f"model {args.model}, layer {plan.hparams.layers[0]}, {len(requests)} records, "
        f"{starts} of them begin with the subject"
    )
    for name in sorted(groups):
        values = groups[name]
        print(
            f"subject {name}: n {len(values)}, mean cosine {sum(values) / len(values):.2f}, "
            f"least {min(values):.2f}"
        )


if __name__ == "__main__":
    main()
