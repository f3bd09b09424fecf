"""Some of many edits are taken out again, one after another: what comes back, and what stays.

A lineage of --edits commits is made as benchmarks.lifelong makes it (and shared with it, where
--out, records and seed are the same). Then --retract of its facts, drawn by the seed among those
that no other edit contradicts, are taken out one after another, the later edits kept: exactly
where the method can, else their deltas are dropped. Asked is each fact right behind its retraction
and at the end, against the unedited model; and all that stayed, before and after. Every piece is a
line in the ledger; the same command goes on where it was interrupted.

    python -m benchmarks.retracting --data DIR --editor ledger[,memit-history] [--edits 200]
        [--retract 30] [--seed 0] [--hparams JSON] [--options JSON] [--records START] [--model NAME]
        [--out FOLDER]
"""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ledger import Entry, Ledger, digest
from benchmarks.longrun import Study, arguments, lay, lineage, study_of
from benchmarks.measuring import fact_from
from benchmarks.progress import Progress
from benchmarks.questions import alone, holding
from benchmarks.sequence import Chain
from editing.metrics.answers import replies
from editing.metrics.counterfact import Compared, FactScores
from editing.metrics.values import as_json, mean_of
from editing.model.state import State
from editing.request import EditRequest
from editing.run import finish, under
from editing.step import Step
from editing.walk import Plan, prepare

Json = dict[str, Any]
_TEXT = 5  # tokens of a greedy answer that are compared, beside the first


@dataclass(frozen=True, slots=True)
class Asked:
    """A fact under one state: its scores, and what the model writes behind its prompt."""

    fact: FactScores
    first: str
    text: str

    @property
    def margin(self) -> float:
        """log p(new) - log p(true), means over tokens, in nats."""
        prompt = self.fact.prompt
        return _mean(prompt.wanted) - _mean(prompt.rival)


def _mean(score: Any) -> float:  # noqa: ANN401 - Score
    return score.logprob / score.tokens


@dataclass(frozen=True, slots=True)
class Retracted:
    """A fact that was taken out, asked of four states."""

    unedited: Asked
    edited: Asked
    now: Asked  # right behind its retraction
    end: Asked  # behind all of them


class Run:
    """One editor."""

    def __init__(self, study: Study, chain: Chain, progress: Progress) -> None:
        self.study, self.chain, self._progress = study, chain, progress
        self.name = chain.plan.method.name
        self._done = 0

    def go(self, count: int) -> Json:
        """Edit, take out, ask; the summary, which is written too."""
        requests = list(self.study.questions.requests)
        self._progress.begin(self.name)
        finish(prepare(self.study.view, self.chain.plan), self._step)
        made = [self._counted(self.chain.edited(one, self._step)) for one in requests]
        failed = [entry["failed"] is not None for _, entry in made]
        chosen = self._chosen([n for n in alone(requests) if not failed[n]], count)
        asked = list(enumerate(holding(requests, failed)))
        full, state = self.chain.name, self.chain.state
        ledger = self.chain.ledger
        scores = {
            "unedited": self.study.unedited(asked, self._say),
            "edited": self.study.scored(ledger, asked, full, state, self._say),
        }
        being = {
            "unedited": self.study.rested(self._say),
            "edited": self.study.being(ledger, full, state),
        }
        taken: list[Entry] = []
        apart: dict[str, list[Asked]] = {"unedited": [], "edited": [], "now": [], "end": []}
        for number in chosen:
            apart["unedited"].append(self._one(number, "", State()))
            apart["edited"].append(self._one(number, full, state))
        for number in chosen:
            _, entry = self._counted(self.chain.retracted(made[number][0], self._step))
            taken.append(entry)
            apart["now"].append(self._one(number, self.chain.name, self.chain.state))
        end, state = self.chain.name, self.chain.state
        scores["end"] = self.study.scored(ledger, asked, end, state, self._say)
        being["end"] = self.study.being(ledger, end, state)
        apart["end"] = [self._one(number, end, state) for number in chosen]
        rows = [Retracted(*four) for four in zip(*apart.values(), strict=True)]
        stayed = [n for n in range(len(requests)) if n not in chosen]
        return self._summary(rows, taken, chosen, stayed, (scores, being, failed))

    def _chosen(self, numbers: Sequence[int], count: int) -> list[int]:
        draw = random.Random(self.study.order.seed)  # noqa: S311 - a sample, not a secret
        return draw.sample(numbers, min(count, len(numbers)))

    def _one(self, number: int, name: str, state: State) -> Asked:
        """Ask one fact of a state called `name`."""
        request = self.study.questions.requests[number]
        ledger, key = self.chain.ledger, digest("retracted", name, self._named(number, request))
        if key not in ledger.entries:
            self._ask(ledger, key, number, request, state)
        entry = ledger.entries[key]
        return Asked(fact_from(entry["fact"]), entry["first"], entry["text"])

    def _named(self, number: int, request: EditRequest) -> str:
        return self.study.questions.asked(number, request)

    def _ask(
        self, ledger: Ledger, key: str, number: int, request: EditRequest, state: State
    ) -> None:
        view = self.study.view
        (fact,) = self.study.questions.scored(view, [(number, request)], state)
        texts = [
            finish(under(view, state, replies(view, [request.question], size)))[request.question]
            for size in (1, _TEXT)
        ]
        ledger.put(key, {**fact, "first": texts[0], "text": texts[1]})

    # ---- what came of it -------------------------------------------------------------------------

    def _summary(
        self,
        rows: Sequence[Retracted],
        taken: Sequence[Entry],
        chosen: Sequence[int],
        stayed: Sequence[int],
        found: tuple[dict[str, list[Entry]], dict[str, Entry], list[bool]],
    ) -> Json:
        scores, being, failed = found
        seed = self.study.order.seed
        lost = [failed[n] for n in stayed]
        before = [scores["unedited"][n] for n in stayed]
        cpu = [entry["cpu_s"] for entry in taken]
        values = self.study.questions.values
        return {
            "made_by": self.chain.ledger.about,
            "text": self.study.text,
            "retract": self.chain.plan.method.retract,
            "edits": len(stayed) + len(chosen),
            "retracted": len(chosen),
            "failed_edits": sum(failed),
            "failed_retractions": [
                {"number": number, "failed": entry["failed"], "why": entry["why"]}
                for number, entry in zip(chosen, taken, strict=True)
                if entry["failed"]
            ],
            "back": {
                when: as_json(back([(row.unedited, getattr(row, when)) for row in rows], seed))
                for when in ("edited", "now", "end")
            },
            "stayed": {
                when: values([scores[when][n] for n in stayed], before, lost, seed)
                for when in ("edited", "end")
            },
            "being": being,
            "cpu_s": {"median": median(cpu), "least": min(cpu), "most": max(cpu)},
            "rows": [
                {
                    "number": number,
                    "subject": self.study.questions.requests[number].subject,
                    "cpu_s": entry["cpu_s"],
                    "failed": entry["failed"],
                    **{
                        f"{name}_{when}": getattr(getattr(row, when), name)
                        for when in ("unedited", "edited", "now", "end")
                        for name in ("margin", "first", "text")
                    },
                }
                for number, entry, row in zip(chosen, taken, rows, strict=True)
            ],
        }

    def _counted(self, made: tuple[str, Entry]) -> tuple[str, Entry]:
        self._done += 1
        self._progress.tell(self._done, f"{made[1]['cpu_s']:.2f} CPU-s")
        return made

    def _step(self, step: Step) -> None:
        self._say(f"{step.stage} {step.done}/{step.total}")

    def _say(self, text: str) -> None:
        self._progress.tell(self._done, text)


def back(pairs: Sequence[tuple[Asked, Asked]], seed: int) -> dict[str, Any]:
    """How far facts answer as the unedited model does: shares in percent; nats.

    preference        the same of the two answers is preferred; of paraphrases too
    true              of those whose true answer the unedited model prefers: it is preferred again
    first, text       the first greedy token, and the first few, are the same
    new_preferred     the new answer is still preferred; new_said: still the model's own choice
    nats              mean distance of log p(new) - log p(true)
    """
    known = [(was, now) for was, now in pairs if not was.fact.prompt.success]

    def share(some: Sequence[Sequence[bool]]) -> Any:  # noqa: ANN401 - Value
        return mean_of([[100.0 * one for one in cluster] for cluster in some], seed=seed)

    return {
        "preference": share([[_same(was.fact.prompt, now.fact.prompt)] for was, now in pairs]),
        "paraphrases": share(
            [
                [
                    _same(*two)
                    for two in zip(was.fact.paraphrases, now.fact.paraphrases, strict=True)
                ]
                for was, now in pairs
            ]
        ),
        "true": share([[not now.fact.prompt.success] for _, now in known]),
        "first": share([[was.first == now.first] for was, now in pairs]),
        "text": share([[was.text == now.text] for was, now in pairs]),
        "new_preferred": share([[now.fact.prompt.success] for _, now in pairs]),
        "new_said": share([[now.fact.prompt.wanted.greedy] for _, now in pairs]),
        "nats": mean_of([[abs(was.margin - now.margin)] for was, now in pairs], seed=seed),
    }


def _paraphrased(was: FactScores, now: FactScores) -> list[bool]:
    return [_same(*two) for two in zip(was.paraphrases, now.paraphrases, strict=True)]


def _same(one: Compared, other: Compared) -> bool:
    return one.success == other.success


# ---- on paper ------------------------------------------------------------------------------------

_BACK = ("preference", "paraphrases", "true", "first", "text", "new_preferred", "new_said", "nats")
_STAYED = ("S", "ES", "PS", "NS")
_WHEN = {"edited": "before", "now": "each, at once", "end": "at the end"}
_CAPTION = """\
Of the facts taken out, against the unedited model, in percent with bootstrap 95 % intervals:
preference, paraphrases: the same of both answers is preferred; true: so is the true answer where
the unedited model prefers it; first, text: the first greedy token, or five, are the same;
new_preferred, new_said: the new answer still is; nats: mean distance of log p(new) - log p(true).
Below, the facts that stayed, before and after all retractions. CPU-s: of one retraction."""


def text_of(summaries: Sequence[Json]) -> str:
    """Two tables in Markdown."""
    lines = [f"| editor | asked | n | {' | '.join(_BACK)} |", "|---" * (len(_BACK) + 3) + "|"]
    for summary in summaries:
        for when, label in _WHEN.items():
            cells = [_interval(summary["back"][when][name]) for name in _BACK]
            head = [_name(summary), label, str(summary["retracted"])]
            lines.append(f"| {' | '.join([*head, *cells])} |")
    heads = ["editor", "stayed", "asked", *_STAYED, "perplexity", "KL", "CPU-s", "failed"]
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for summary in summaries:
        for when in ("edited", "end"):
            being, cpu = summary["being"][when], summary["cpu_s"]
            cells = [_name(summary), str(summary["edits"] - summary["retracted"]), _WHEN[when]]
            cells += [_interval(summary["stayed"][when][name]) for name in _STAYED]
            cells += [f"{being['perplexity']:.2f}", f"{being['kl']:.4f}"]
            cost = f"{cpu['median']:.2f} [{cpu['least']:.2f}, {cpu['most']:.2f}]"
            ended = [cost, str(len(summary["failed_retractions"]))] if when == "end" else ["", ""]
            lines.append(f"| {' | '.join([*cells, *ended])} |")
    made = summaries[0]["made_by"]
    parts = [f"model {made['model']} {made['fingerprint'][:23]}", made["dtype"]]
    parts += [f"torch {made['torch']}", f"seed {made['seed']}", f"threads {made['threads']}"]
    return "\n".join([f"{', '.join(parts)}.", "", *lines, "", _CAPTION])


def _name(summary: Json) -> str:
    return f"{summary['made_by']['method']} ({summary['retract']})"


def _interval(value: Json) -> str:
    if value["value"] is None:
        return "-"
    ends = "" if value["low"] is None else f" [{value['low']:.1f}, {value['high']:.1f}]"
    return f"{value['value']:.1f}{ends}"


def main() -> None:
    """Edit, take out, tell."""
    made = arguments(__doc__, edits=200)
    made.add_argument("--retract", type=int, default=30)
    args = made.parse_args()
    if args.dataset != "counterfact":
        made.error("only CounterFact's records have an answer that can come back")
    study = study_of(made, args)
    given = json.loads(args.hparams)
    plans = [Plan.of(study.view, editor, given) for editor in args.editor.split(",")]
    progress = Progress([args.edits + args.retract] * len(plans), sys.stderr)
    summaries: list[Json] = []
    name = f"retracting-{args.edits}-{args.retract}"
    for plan in plans:
        with lineage(study, plan, given) as chain:
            summary = Run(study, chain, progress).go(args.retract)
            summaries.append(lay(chain.ledger.folder / f"{name}.json", summary))
        progress.close()
    out = study.order.out / f"{name}.md"
    out.write_text(text_of(summaries) + "\n", "utf-8")
    print(text_of(summaries))
    for path in [out, *_picture(summaries, out.with_suffix(".png"))]:
        print(path)


def _picture(summaries: Sequence[Json], path: Path) -> list[Path]:
    try:
        from benchmarks.retracting_figure import draw  # noqa: PLC0415 - a table needs no matplotlib
    except ImportError:
        print("no picture: it needs matplotlib (pip install -e '.[bench]')", file=sys.stderr)
        return []
    draw(summaries, path)
    return [path]


if __name__ == "__main__":
    main()
