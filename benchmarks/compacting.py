"""Many edits solved anew in one batch from base: what a compaction is worth, and lambda at that n.

A lineage of --edits commits by the ledger is made as benchmarks.lifelong makes it (and shared with
it, where --out, records and seed are the same). Then all its live facts are solved together at
fresh keys, under the lineage's own weight of everyday keys and under those of --shares
(`written_share`), and all records are asked under each. Every piece is a line in the ledger; the
same command goes on where it was interrupted.

    python -m benchmarks.compacting --data DIR [--edits 300] [--shares 0.34,0.2] [--seed 0]
        [--hparams JSON] [--options JSON] [--records START] [--model NAME] [--out FOLDER]
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.ledger import Entry, digest
from benchmarks.longrun import Study, arguments, lay, lineage, study_of
from benchmarks.progress import Progress
from benchmarks.questions import holding
from benchmarks.sequence import Chain
from editing.editors.band import everyday
from editing.editors.book import Book
from editing.editors.ledger import metric
from editing.hparams import LedgerHparams
from editing.model.state import State
from editing.outcome import Outcome
from editing.run import finish, under
from editing.step import Step
from editing.walk import Plan, prepare

Json = dict[str, Any]


class Run:
    """The ledger on the records of a study."""

    def __init__(self, study: Study, chain: Chain, progress: Progress) -> None:
        self.study, self.chain, self._progress = study, chain, progress
        self._done = 0

    def go(self, shares: Sequence[float]) -> Json:
        """Edit, solve anew, ask; the summary."""
        study, chain = self.study, self.chain
        self._progress.begin("ledger")
        finish(prepare(study.view, chain.plan), self._step)
        failed: list[bool] = []
        for number, request in enumerate(study.questions.requests):
            failed.append(chain.edited(request, self._step)[1]["failed"] is not None)
            self._done = number + 1
            self._progress.tell(self._done)
        rows = [self._asked("one after another", chain.name, chain.state, failed, 0.0)]
        own = self._hparams.written_share
        rows += [self._solved(share, failed) for share in (own, *shares)]
        return {"made_by": chain.ledger.about, "text": study.text, "rows": rows}

    @property
    def _hparams(self) -> LedgerHparams:
        hparams = self.chain.plan.hparams
        assert isinstance(hparams, LedgerHparams)
        return hparams

    def _solved(self, share: float, failed: Sequence[bool]) -> Json:
        """All live facts in one solution under a weight of everyday keys."""
        view, hparams = self.study.view, self._hparams
        _, made_by = metric(view, hparams)
        bases = everyday(view, replace(hparams, written_share=share))
        book = Book(view, hparams, self.chain.history, (bases, made_by))
        if not book.slots:
            folder = self.chain.ledger.folder
            sys.exit(f"No fact of {folder} is live: made by other code? Give another --out")
        began = time.process_time()
        made = Outcome.from_bytes(finish(under(view, State(), book.compacted())).to_bytes())
        cpu = time.process_time() - began
        name = digest("compacted", str(share), self.chain.name)
        state = view.after(made.deltas, State())
        return self._asked(f"together, written_share {share:g}", name, state, failed, cpu)

    def _asked(
        self, what: str, name: str, state: State, failed: Sequence[bool], cpu: float
    ) -> Json:
        study, ledger = self.study, self.chain.ledger
        asked = list(enumerate(holding(list(study.questions.requests), list(failed))))
        before = study.unedited(asked, self._say)
        now: list[Entry] = study.scored(ledger, asked, name, state, self._say)
        values = study.questions.values(now, before, failed, study.order.seed)
        being = dict(study.being(ledger, name, state))
        self._progress.say(f"{what}: S {values['S']['value']:.1f}")
        return {"what": what, "values": values, "being": being, "cpu_s": cpu, "n": len(asked)}

    def _step(self, step: Step) -> None:
        self._say(f"{step.stage} {step.done}/{step.total}")

    def _say(self, text: str) -> None:
        self._progress.tell(self._done, text)


def text_of(summary: Json) -> str:
    """A table in Markdown."""
    names = ["S", "ES", "PS", "NS", "EA"]
    heads = ["solved", "n", *names, "perplexity", "running text", "KL", "CPU-s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in summary["rows"]:
        being = row["being"]
        values = [row["values"][name] for name in names]
        cells = [row["what"], str(row["n"])]
        cells += [f"{v['value']:.1f} [{v['low']:.1f}, {v['high']:.1f}]" for v in values]
        running = being["running"]
        cells += [f"{being['perplexity']:.2f}", "-" if running is None else f"{running:.2f}"]
        cells += [f"{being['kl']:.3f}", f"{row['cpu_s']:.0f}" if row["cpu_s"] else "-"]
        lines.append(f"| {' | '.join(cells)} |")
    made = summary["made_by"]
    parts = [f"model {made['model']} {made['fingerprint'][:23]}", made["dtype"]]
    parts += [f"torch {made['torch']}", f"records from {made['start']}", f"seed {made['seed']}"]
    return "\n".join([f"{', '.join(parts)}, threads {made['threads']}.", "", *lines])


def main() -> None:
    """Edit, solve anew, tell."""
    made = arguments(__doc__, edits=300, required=False)
    made.set_defaults(editor="ledger")
    made.add_argument("--shares", default="", help="further values of written_share, by commas")
    args = made.parse_args()
    if args.editor != "ledger" or args.dataset != "counterfact":
        made.error("it is the ledger that is compacted, on CounterFact's records")
    study = study_of(made, args)
    given = json.loads(args.hparams)
    plan = Plan.of(study.view, "ledger", given)
    progress = Progress([args.edits], sys.stderr)
    shares = [float(one) for one in args.shares.split(",") if one]
    with lineage(study, plan, given) as chain:
        summary = Run(study, chain, progress).go(shares)
        lay(chain.ledger.folder / f"compacting-{args.edits}.json", summary)
    progress.close()
    text = text_of(summary)
    out = study.order.out / f"compacting-{args.edits}.md"
    out.write_text(text + "\n", "utf-8")
    print(text)
    print(out)


if __name__ == "__main__":
    main()
