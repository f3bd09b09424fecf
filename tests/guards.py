"""A guard for tiny models: of width 32, each edit changes what a canary looks at by a lot."""

LAX = {"perplexity_ratio": None, "norm_ratio": None, "distinct": None}
