"""Print how far the key of a bare prompt lies from the same subject's keys behind prefixes.

For records of CounterFact: cosine between the bare prompt's key and the mean of the prefixed keys
at the lowest layer a band edit writes, by where the subject ends.

    python -m benchmarks.keys --data DIR [--records 64]
"""

import argparse
import os
from collections import defaultdict
from pathlib import Path

import torch

from editing.datasets.counterfact import read_counterfact
from editing.editors.keys import KeyReader
from editing.model.load import load_view
from editing.model.tokens import place
from editing.source import parse_source
from editing.walk import Plan, finish, prepare


def main() -> None:
    """Read the keys and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("ERRATA_DATA"))
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--cache", default=str(Path.home() / ".cache" / "errata"))
    args = parser.parse_args()
    if not args.data:
        parser.error("name the folder of benchmark data with --data or ERRATA_DATA")
    torch.set_num_threads(1)
    requests = read_counterfact(
        Path(args.data) / "counterfact" / "counterfact_full.json", limit=args.records
    )
    view = load_view(parse_source(args.model), cache=Path(args.cache))
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
