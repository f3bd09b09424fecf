"""What a long run of edits does to the model where nothing was asked of it.

Perplexity on running text, KL and perplexity on the neutral texts that ship with the project, and
how much the edited weights of each layer have grown.
"""

from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.common import corpus_name
from benchmarks.ledger import Entry
from benchmarks.measuring import drifted
from editing.metrics.drift import logprobs_of
from editing.model.state import State
from editing.model.tokens import encode
from editing.model.view import ModelView

_SHORTEST, _LONGEST = 16, 128  # tokens of a piece of running text
_ROWS = 2  # pieces read at a time
CORPUS = Path("corpus") / "wikitext2_valid_test_clean.txt"


class Running:
    """The first paragraphs of a text, each cut to a length, up to so many tokens in all."""

    def __init__(self, view: ModelView, file: Path, tokens: int) -> None:
        self.name = f"{corpus_name(file)}, {tokens} tokens"
        self._view = view
        self._pieces: list[list[int]] = []
        held = 0
        for line in file.read_text("utf-8").splitlines():
            piece = encode(view.tokenizer, line.strip())[: min(_LONGEST, tokens - held)]
            if len(piece) >= _SHORTEST:
                self._pieces.append(piece)
                held += len(piece)
            if tokens - held < _SHORTEST:
                break

    def perplexity(self, state: State) -> float:
        """Of what `state` serves."""
        loss, count = 0.0, 0
        with self._view.showing(state):
            for start in range(0, len(self._pieces), _ROWS):
                logprobs, gold = logprobs_of(self._view, self._pieces[start : start + _ROWS])
                loss -= float(logprobs.gather(1, gold[:, None]).double().sum())
                count += len(gold)
        return float(torch.tensor(loss / count, dtype=torch.float64).exp())


def wellbeing(view: ModelView, state: State, running: Running | None) -> Entry:
    """All of it under one state."""
    return {
        **asdict(drifted(view, state)),
        "running": running.perplexity(state) if running else None,
        "norms": {
            name: float(master.double().norm() / view.master(name, State()).double().norm())
            for name, master in state.masters.items()
        },
    }
