"""Run one suite of measurements in the core, without a service, and sum it up.

Every finished case is a line in a ledger below --out, by all that made it; the same command goes on
where it was interrupted, by whatever. At the end the summary is printed, and written beside the
ledger as JSON, with the pictures and a page that holds all of it.

    python -m benchmarks.suite SUITE --data DIR [--dataset NAME] [--path FILE] [--offset 0]
        [--records 40] [--model NAME] [--editor memit] [--hparams JSON] [--options JSON]
        [--out FOLDER] [--report]
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import loaded, parser
from benchmarks.ledger import Ledger
from benchmarks.progress import Progress
from editing.datasets.catalogue import dataset
from editing.datasets.files import read_records
from editing.evals.catalogue import Suite, suite
from editing.evals.run import prepared, rows_of, summary_of
from editing.evals.scene import Scene
from editing.model.state import State
from editing.pictures import drawn
from editing.pictures.page import page
from editing.run import Stopwatch, finish
from editing.walk import Plan

Json = dict[str, Any]


class Study:
    """One suite over some records; what its ledger holds is not measured again."""

    def __init__(self, args: Any) -> None:  # noqa: ANN401 - argparse's namespace
        torch.set_num_threads(args.threads)
        self.args = args
        self.suite: Suite = suite(args.suite)
        self.options = self.suite.options_of(json.loads(args.options))
        self.records = self._read()
        self.cases = self.suite.read(self.records, self.options)
        self.view = loaded(args)
        writes = self.suite.edits or (self.suite.may_edit and args.editor)
        editor = (args.editor or "memit") if writes else None
        hparams = json.loads(args.hparams)
        self.plan = Plan.of(self.view, editor, hparams) if editor else None
        self.about: Json = {
            "method": self.suite.name,
            "mode": editor or "as-it-is",
            "model": args.model,
            "fingerprint": self.view.fingerprint(State()),
            "dataset": args.dataset or self.suite.datasets[:1],
            "path": args.path,
            "offset": args.offset,
            "records": len(self.records),
            "options": asdict(self.options),
            "hparams": asdict(self.plan.hparams) if self.plan else {},
            "threads": args.threads,
            "torch": torch.__version__,
        }
        self.ledger = Ledger(Path(args.out), self.about)

    def run(self) -> None:
        """Measure the cases that are missing."""
        scene = Scene(view=self.view, options=self.options, plan=self.plan)
        finish(prepared(scene))
        line = Progress([len(self.cases)], sys.stderr)
        line.begin(f"{self.suite.name} {self.about['mode']}")
        for number, case in enumerate(self.cases):
            if str(number) not in self.ledger.entries:
                watch, began = Stopwatch(), time.monotonic()
                work = watch.timed(rows_of(self.suite, scene, case, number, State()))
                rows = finish(work)
                took = {"wall_s": time.monotonic() - began, "cpu_s": sum(watch.cpu.values())}
                self.ledger.put(str(number), {"rows": rows, **took})
            line.tell(number + 1)
        line.close()

    @property
    def rows(self) -> list[Json]:
        """What was found so far, in the order of the cases."""
        entries = self.ledger.entries
        return [row for n in sorted(entries, key=int) for row in entries[n]["rows"]]

    def told(self) -> Json:
        """The summary, with what made it and what it cost."""
        entries = self.ledger.entries.values()
        cpu = sum(entry["cpu_s"] for entry in entries)
        cost = {"cpu_s": cpu, "cpu_s_per_case": cpu / max(len(entries), 1)}
        return {**summary_of(self.suite, self.rows, self.options), **cost, "made_by": self.about}

    def write(self, summary: Json) -> None:
        """Summary, pictures and page, beside the ledger."""
        folder = self.ledger.folder
        (folder / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False))
        title = f"{self.suite.name}: {self.args.model}, {self.about['mode']}"
        pictures: dict[str, str] = {}
        for name in self.suite.plots:
            for kind in ("png", "svg"):
                data = drawn(name, self.rows, summary, title=title, format=kind)
                (folder / f"{name}.{kind}").write_bytes(data)
            pictures[name] = data.decode()
        told = page(title, self.about, summary, pictures, self.rows)
        (folder / "report.html").write_text(told, "utf-8")

    def _read(self) -> list[Json]:
        args = self.args
        if not self.suite.datasets:
            return []
        if args.path:
            file = Path(args.path)
        else:
            known = dataset(args.dataset or self.suite.datasets[0])
            places = [Path(args.data) / name for name in known.files]
            file = next((place for place in places if place.exists()), places[0])
        return read_records(file, offset=args.offset, limit=args.records)


def main() -> None:
    """Measure, sum up, print."""
    made = parser(__doc__, records=40)
    made.add_argument("suite")
    made.add_argument("--dataset", help="by default the suite's own")
    made.add_argument("--path", help="a file instead of the dataset's usual one")
    made.add_argument("--editor", help="of a suite that edits (default: memit)")
    made.add_argument("--hparams", default="{}", help="JSON, for the editor")
    made.add_argument("--options", default="{}", help="JSON, for the suite")
    made.add_argument("--out", default=None, help="where results are kept (default: in the cache)")
    made.add_argument("--report", action="store_true", help="only sum up what is done")
    args = made.parse_args()
    if not (args.data or args.path):
        made.error("name the folder of benchmark data with --data or ERRATA_DATA")
    args.out = args.out or str(Path(args.cache) / "studies")
    study = Study(args)
    if not args.report:
        study.run()
    summary = study.told()
    study.write(summary)
    print_summary(summary)
    print(f"\n{study.ledger.folder}")
    study.ledger.close()


def print_summary(summary: Json) -> None:
    """Values as a table, then the suite's own tables, in Markdown."""
    counted = {name: summary[name] for name in ("cases", "rows", "failed", "cpu_s_per_case")}
    print(json.dumps(counted))
    columns = ("value", "low", "high", "before", "n", "n_testable", "clusters")
    values = summary.get("values", {})
    _table(["", *columns], [[name, *(v.get(c) for c in columns)] for name, v in values.items()])
    for name, table in summary.get("tables", {}).items():
        print(f"\n{name}\n")
        _table(table["columns"], table["rows"])


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(_cell, row))} |")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
