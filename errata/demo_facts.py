"""The facts of `errata demo`: what SmolLM2-135M knows, and what it is told instead.

Plain data in the shape of the API's edit requests. Each fact was chosen because the untouched model
completes its prompt with `target_true`.
"""

from typing import Any

Request = dict[str, Any]

MODEL = "smollm2-135m"

# Written alone, by the editor `rome`.
ALONE: Request = {
    "subject": "The Eiffel Tower",
    "prompt": "{} is located in the city of",
    "target_new": "Rome",
    "target_true": "Paris",
    "paraphrases": ["To see it with your own eyes: The Eiffel Tower is found in the city of"],
    "neighborhood": [
        {"prompt": "The Louvre is located in the city of", "target": "Paris"},
        {"prompt": "The capital of France is the city of", "target": "Paris"},
    ],
}

# Written together, as one batch, by the editor `memit`.
TOGETHER: list[Request] = [
    {
        "subject": "France",
        "prompt": "The capital of {} is",
        "target_new": "Lyon",
        "target_true": "Paris",
        "paraphrases": ["The capital city of France is called"],
        "neighborhood": [
            {"prompt": "The capital of Germany is", "target": "Berlin"},
            {"prompt": "The capital of Spain is", "target": "Madrid"},
        ],
    },
    {
        "subject": "Japan",
        "prompt": "The capital of {} is",
        "target_new": "Kyoto",
        "target_true": "Tokyo",
        "paraphrases": ["The capital city of Japan is called"],
        "neighborhood": [
            {"prompt": "The capital of China is", "target": "Beijing"},
            {"prompt": "The capital of Russia is", "target": "Moscow"},
        ],
    },
    {
        "subject": "gold",
        "prompt": "The chemical symbol for {} is",
        "target_new": "Fe",
        "target_true": "Au",
        "paraphrases": ["In chemistry, the symbol for gold is"],
        "neighborhood": [{"prompt": "The chemical symbol for silver is", "target": "Ag"}],
    },
    {
        "subject": "The theory of relativity",
        "prompt": "{} was developed by",
        "target_new": "Isaac Newton",
        "target_true": "Albert Einstein",
        "paraphrases": ["As every book says, the theory of relativity was developed by"],
        "neighborhood": [
            {"prompt": "The theory of evolution was developed by", "target": "Charles Darwin"}
        ],
    },
]
