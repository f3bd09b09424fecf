"""Poisonous orders among good ones, with a guard and without: what is served, and what it costs.

--poison orders (contradictions of earlier ones, absurd answers, broken prompts; poison.py) are
mixed into --edits good ones by the seed. Each is edited, measured by the promotion report and
judged by the guard, as a worker does it. An arm is what follows a breach: `off` serves whatever
was computed, `reject` does not, `repair` computes it once more together with what it disturbed.
`clean` is the good orders alone, as benchmarks.lifelong makes them. In the end all good facts are
asked. Every order is a line in a ledger; the same command goes on where it was interrupted.

    python -m benchmarks.guarding --data DIR --editor ledger [--edits 150] [--poison 50] [--seed 0]
        [--arms clean,off,reject,repair] [--guard JSON] [--hparams JSON] [--options JSON]
        [--records START] [--model NAME] [--out FOLDER]
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ledger import Entry, digest
from benchmarks.longrun import Study, arguments, lay, lineage, study_of
from benchmarks.poison import KINDS, Item, mixed
from benchmarks.progress import Progress
from benchmarks.questions import holding, questions
from benchmarks.sequence import Chain, Work, bare
from editing.editors.replaced import replaced_in
from editing.errors import BadRequest, EditFailed, EditingError
from editing.guard import Guard, judge, verdict
from editing.metrics.promotion import promotion_report
from editing.metrics.standing import Live
from editing.outcome import Outcome
from editing.repair import Disturbed, repair
from editing.request import EditRequest
from editing.run import finish
from editing.step import Step
from editing.walk import Plan, edit, prepare

Json = dict[str, Any]
ARMS = ("clean", "off", "reject", "repair")
# What may become of an order.
FATES = ("refused", "not written", "rejected", "served", "served after repair", "served, breaching")


def guard_of(arm: str, given: Json) -> Guard:
    """The guard of an arm: where nothing is to follow a breach, not even a collapse does."""
    follows = {"on_breach": "warn", "on_collapse": "warn"} if arm == "off" else {"on_breach": arm}
    return Guard.of(given, follows)


@dataclass(slots=True)
class _Try:
    """An outcome, and what the guard says of it."""

    outcome: Outcome
    report: Json
    breaches: list[Json]
    verdict: str
    disturbed: list[tuple[str, int, EditRequest]]


class Guarded:
    """A lineage in which an order is judged before it is served."""

    def __init__(self, chain: Chain, guard: Guard, seed: int) -> None:
        self.chain, self.guard, self._seed = chain, guard, seed
        self.served: list[tuple[str, EditRequest]] = []  # by the keys of their commits

    def ordered(self, item: Item, seen: Any = None) -> Entry:  # noqa: ANN401 - see Chain
        """What became of an order: an entry with its fate."""
        key = digest("guarded", self.chain.name, json.dumps(item.request, sort_keys=True))
        told: Json = {"kind": item.kind, "breaches": [], "fate": "refused", "repaired": False}

        def work() -> Work:
            return self._judged(EditRequest.from_dict(item.request), key, told)

        key, entry = self.chain.committed(key, work, seen, told)
        if entry["blob"]:
            self.served.append((key, bare(EditRequest.from_dict(item.request))))
        return entry

    def _judged(self, request: EditRequest, key: str, told: Json) -> Work:
        """The outcome that is served; `told` says of it what a report says. Raises EditingError."""
        chain, live = self.chain, self._live(request, key)
        try:
            first = yield from self._tried(
                edit(chain.view, chain.plan, [bare(request)], chain.history), request, live
            )
        except BadRequest:
            raise
        except EditingError:
            told["fate"] = "not written"
            raise
        last = first
        if first.verdict == "repair":
            told |= {"repaired": True, "before_repair": first.breaches}
            last = yield from self._repaired(request, live, first)
        told["breaches"] = last.breaches
        if last.verdict == "reject":
            told["fate"] = "rejected"
            raise EditFailed(f"guard breached: {'; '.join(one['at'] for one in last.breaches)}")
        told["fate"] = "served after repair" if told["repaired"] else "served"
        if last.breaches:
            told["fate"] = "served, breaching"
        return last.outcome

    def _tried(
        self,
        solving: Work,
        request: EditRequest,
        live: Sequence[Live],
        *,
        anew: Sequence[Disturbed] = (),
    ) -> Any:  # noqa: ANN401 - a generator of Steps that ends with a _Try
        view = self.chain.view
        outcome = yield from solving
        after = view.after(Outcome.from_bytes(outcome.to_bytes()).deltas)
        over = {name for name, _ in replaced_in(outcome)} - {name for name, _, _ in anew}
        asked = [one for one in live if one.edit not in over]  # what it replaces is not disturbed
        report: Json = yield from promotion_report(view, [request], after, asked)
        gone = {(one["edit"], n) for one in report["live"]["disturbed"] for n in one["facts"]}
        disturbed = [
            (one.edit, one.number, one.request) for one in live if (one.edit, one.number) in gone
        ]
        breaches = judge(report, self.guard)
        said = verdict(breaches, self.guard, repairable=bool(disturbed) and not anew)
        return _Try(outcome, report, [one.to_dict() for one in breaches], said, disturbed)

    def _repaired(self, request: EditRequest, live: Sequence[Live], first: _Try) -> Any:  # noqa: ANN401
        """The second try; where it cannot be computed, the first one is what is not served."""
        chain = self.chain
        work = repair(chain.view, chain.plan, chain.history, [bare(request)], first.disturbed)
        try:
            return (yield from self._tried(work, request, live, anew=first.disturbed))
        except EditingError:
            return replace(first, verdict="reject")

    def _live(self, request: EditRequest, key: str) -> list[Live]:
        """The standing facts of the subject, and some of others, drawn by the order."""
        standing: dict[str, tuple[str, EditRequest]] = {}
        for name, one in self.served:
            standing[one.question] = (name, one)
        standing.pop(request.question, None)
        found = list(standing.values())
        same = [one for one in found if _subject(one[1]) == _subject(request)]
        others = [one for one in found if _subject(one[1]) != _subject(request)]
        draw = random.Random(key)  # noqa: S311 - a sample, not a secret
        some = draw.sample(others, min(self.guard.sample, len(others)))
        return [
            *(Live(one, name, 0, same_subject=True) for name, one in same),
            *(Live(one, name, 0, same_subject=False) for name, one in some),
        ]


def _subject(request: EditRequest) -> str:
    return " ".join(request.subject.casefold().split())


class Run:
    """One arm of one editor."""

    def __init__(
        self, study: Study, chain: Chain, arm: str, items: Sequence[Item], progress: Progress
    ) -> None:
        self.study, self.chain, self.arm, self.items = study, chain, arm, items
        self._progress, self._done = progress, 0

    def go(self, guard: Guard | None) -> Json:
        """Order after order, then ask; the summary. Without a guard the good ones alone."""
        self._progress.begin(f"{self.chain.plan.method.name} {self.arm}")
        finish(prepare(self.study.view, self.chain.plan), self._step)
        guarded = Guarded(self.chain, guard, self.study.order.seed) if guard else None
        entries: list[Entry] = []
        for number, item in enumerate(self.items):
            entries.append(guarded.ordered(item, self._step) if guarded else self._plain(item))
            self._done = number + 1
            self._progress.tell(self._done, entries[-1]["fate"])
        return self._summary(entries, guard)

    def _plain(self, item: Item) -> Entry:
        _, entry = self.chain.edited(EditRequest.from_dict(item.request), self._step)
        fate = "not written" if entry["failed"] else "served"
        return {**entry, "kind": "", "breaches": [], "fate": fate, "repaired": False}

    def _summary(self, entries: Sequence[Entry], guard: Guard | None) -> Json:
        good = [(item, e) for item, e in zip(self.items, entries, strict=True) if not item.kind]
        bad = [e for item, e in zip(self.items, entries, strict=True) if item.kind]
        wanted = self.study.questions.requests
        lost = [not entry["blob"] for _, entry in good]
        served = [number for number, gone in enumerate(lost) if not gone]
        asked = list(enumerate(wanted))
        before = self.study.unedited(asked, self._say)
        now = self.study.scored(
            self.chain.ledger, asked, self.chain.name, self.chain.state, self._say
        )
        overwritten = self._overwritten(entries)
        kept = [number for number in served if number not in overwritten]

        def values(numbers: Sequence[int], failed: Sequence[bool]) -> Json:
            some = [[entries[n] for n in numbers] for entries in (now, before)]
            return self.study.questions.values(some[0], some[1], failed, self.study.order.seed)

        measured = [entry["stages"].get("measure", 0.0) for entry in entries]
        solved = [e["cpu_s"] - m for e, m in zip(entries, measured, strict=True)]
        return {
            "made_by": self.chain.ledger.about,
            "arm": self.arm,
            "guard": guard.to_dict() if guard else None,
            "poison": len(bad),
            "fates": dict(Counter(entry["fate"] for entry in bad)),
            "kinds": {
                kind: dict(Counter(entry["fate"] for entry in bad if entry["kind"] == kind))
                for kind in KINDS
            },
            "good": {
                "n": len(good),
                "fates": dict(Counter(entry["fate"] for _, entry in good)),
                "overwritten": len(overwritten),
                "all": values(range(len(wanted)), lost),
                "served": values(kept, [False] * len(kept)) if kept else {},
            },
            "breaches": dict(Counter(one["what"] for entry in bad for one in entry["breaches"])),
            "false_alarms": dict(
                Counter(one["what"] for _, entry in good for one in entry["breaches"])
            ),
            "being": dict(self.study.being(self.chain.ledger, self.chain.name, self.chain.state)),
            "being_before": dict(self.study.rested(self._say)),
            "cpu_s": {"edit": median(solved), "measure": median(measured)},
            "rows": [
                {
                    **{name: entry[name] for name in ("fate", "failed", "why", "breaches")},
                    "kind": item.kind,
                    "request": item.request,
                }
                for item, entry in zip(self.items, entries, strict=True)
            ],
        }

    def _overwritten(self, entries: Sequence[Entry]) -> set[int]:
        """The good records whose question a later order that was served has answered anew."""
        made = [
            (item, bare(EditRequest.from_dict(item.request)))
            for item, entry in zip(self.items, entries, strict=True)
            if entry["blob"]
        ]
        facts = [replace(one, relation=None) for _, one in made]  # by the question alone
        held = holding(facts, [False] * len(facts))
        return {
            item.number
            for (item, _), mine, last in zip(made, facts, held, strict=True)
            if mine is not last and item.number is not None
        }

    def _step(self, step: Step) -> None:
        self._say(f"{step.stage} {step.done}/{step.total}")

    def _say(self, text: str) -> None:
        self._progress.tell(self._done, text)


# ---- on paper ------------------------------------------------------------------------------------

_CAPTION = """\
refused: no request, or none that can be written; not written: the editor could not; rejected: by
the guard; served, breaching: beyond a threshold of the guard and served all the same. Of the good:
what became of the orders, how many a later served order with the same question has overwritten, and
in percent, with bootstrap 95 % intervals, ES of all good orders (one that is not served counts as
not answered), and ES, PS, NS of those served and not overwritten. Perplexity: on the project's
neutral texts. CPU-s: medians, of computing an order and of measuring it."""


def text_of(summaries: Sequence[Json]) -> str:
    """Tables in Markdown: the poisonous orders, by kind, and the good ones."""
    made = summaries[0]["made_by"]
    parts = [f"model {made['model']} {made['fingerprint'][:23]}", made["dtype"]]
    parts += [f"torch {made['torch']}", f"seed {made['seed']}", f"threads {made['threads']}"]
    heads = ["editor", "guard", "poisonous orders", *FATES]
    lines = [_row(heads), "|---" * len(heads) + "|"]
    for summary in summaries:
        if summary["poison"]:
            kinds = {"all": summary["fates"], **summary["kinds"]}
            lines += [_row(_counts(summary, kind, fates)) for kind, fates in kinds.items()]
    heads = ["editor", "guard", "good orders", *FATES, "overwritten", "ES of all"]
    heads += ["ES", "PS", "NS", "perplexity", "CPU-s"]
    lines += ["", _row(heads), "|---" * len(heads) + "|"]
    for summary in summaries:
        good, cpu = summary["good"], summary["cpu_s"]
        cells = _counts(summary, str(good["n"]), good["fates"])
        cells += [str(good["overwritten"]), _interval(good["all"]["ES"])]
        cells += [_interval(good["served"].get(name)) for name in ("ES", "PS", "NS")]
        cells += [f"{summary['being_before']['perplexity']:.2f} -> {_perplexity(summary)}"]
        cells += [f"{cpu['edit']:.2f} + {cpu['measure']:.2f}"]
        lines.append(_row(cells))
    alarms = [
        f"{_name(summary)}, {summary['arm']}: breaches by poisonous orders "
        f"{_told('breaches', summary)}; by good ones {_told('false_alarms', summary)}."
        for summary in summaries
        if summary["guard"]
    ]
    return "\n".join([f"{', '.join(parts)}.", "", *lines, "", *alarms, "", _CAPTION])


def _counts(summary: Json, label: str, fates: Json) -> list[str]:
    return [_name(summary), summary["arm"], label, *(str(fates.get(fate, 0)) for fate in FATES)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _told(name: str, summary: Json) -> str:
    return ", ".join(f"{what} {count}" for what, count in summary[name].items()) or "none"


def _name(summary: Json) -> str:
    return str(summary["made_by"]["method"])


def _perplexity(summary: Json) -> str:
    return f"{summary['being']['perplexity']:.2f}"


def _interval(value: Json | None) -> str:
    if value is None:
        return "-"
    return f"{value['value']:.1f} [{value['low']:.1f}, {value['high']:.1f}]"


def main() -> None:
    """Order, judge, tell."""
    made = arguments(__doc__, edits=150)
    made.add_argument("--poison", type=int, default=50)
    made.add_argument("--arms", default=",".join(ARMS), help=f"of {', '.join(ARMS)}")
    made.add_argument("--guard", default="{}", help="JSON, over the guard's defaults")
    args = made.parse_args()
    arms = args.arms.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        made.error(f"{', '.join(unknown)} is none of {', '.join(ARMS)}")
    if args.dataset != "counterfact":
        made.error("the poison is made of CounterFact's records")
    study = study_of(made, args)
    given, guard = json.loads(args.hparams), json.loads(args.guard)
    order = study.order
    spare = questions(
        order.dataset,
        order.data,
        order.options,
        start=order.start + order.edits,
        count=args.poison,
        seed=order.seed,
    )
    good = list(study.questions.requests)
    both = mixed(good, list(spare.requests), args.poison, order.seed)
    plans = [Plan.of(study.view, editor, given) for editor in args.editor.split(",")]
    rows = [(plan, arm) for plan in plans for arm in arms]
    sizes = [len(good) if arm == "clean" else len(both) for _, arm in rows]
    progress = Progress(sizes, sys.stderr)
    summaries: list[Json] = []
    name = f"guarding-{args.edits}-{args.poison}"
    for plan, arm in rows:
        judged = None if arm == "clean" else guard_of(arm, guard)
        apart = None if judged is None else {"mode": f"guarding-{arm}", "guard": judged.to_dict()}
        with lineage(study, plan, given, apart) as chain:
            items = both if judged else [item for item in both if not item.kind]
            summary = Run(study, chain, arm, items, progress).go(judged)
            summaries.append(lay(chain.ledger.folder / f"{name}.json", summary))
        progress.close()
    out = order.out / f"{name}.md"
    out.write_text(text_of(summaries) + "\n", "utf-8")
    print(text_of(summaries))
    for path in [out, *_picture(summaries, out.with_suffix(".png"))]:
        print(path)


def _picture(summaries: Sequence[Json], path: Path) -> list[Path]:
    try:
        from benchmarks.guarding_figure import draw  # noqa: PLC0415 - a table needs no matplotlib
    except ImportError:
        print("no picture: it needs matplotlib (pip install -e '.[bench]')", file=sys.stderr)
        return []
    draw(summaries, FATES, path)
    return [path]


if __name__ == "__main__":
    main()
