"""The table of editors: rows made of ledgers, as text, CSV and JSON."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.ledger import Entry, code, newest
from benchmarks.measuring import fact_from, harmonic, intervals, prompts, rates
from benchmarks.task import UNEDITED, Found, Task, found
from editing.metrics.counterfact import FactScores
from editing.request import EditRequest

Row = dict[str, Any]
_SHARED = ("fingerprint", "dtype", "device", "torch")  # by all rows of a table
_APART = ("statistics",)  # stages that are no edit's own work


@dataclass(frozen=True, slots=True)
class Table:
    """All rows, and what was found out about the model."""

    about: Entry  # of the unedited model's ledger; empty where nothing was done
    rows: list[Row]


def table_of(tasks: Sequence[Task], errors: Mapping[str, str]) -> Table:
    """Make the rows of what is done, the unedited model first. `errors` go by a task's name."""
    unedited = newest(tasks[0].runs, tasks[0].asked)
    about, before = unedited or ({}, {})
    rows: list[Row] = []
    for task in tasks:
        kept = newest(task.runs, task.asked)
        same = kept is not None and all(kept[0][name] == about.get(name) for name in _SHARED)
        entries = kept[1] if kept and same else {}
        row = _row(task, task.requests(), entries, before)
        rows.append({**row, "error": errors.get(task.name, "")})
    return Table(about, rows)


def _row(
    task: Task,
    requests: Sequence[EditRequest],
    entries: Mapping[str, Entry],
    base: Mapping[str, Entry],
) -> Row:
    has = found(task, requests, entries)
    row: Row = {
        "method": task.method,
        "mode": task.mode,
        "family": task.family,
        "done": len(has.entries),
        "of": task.pieces(len(requests)),
    }
    measured = [number for number, fact in enumerate(has.facts) if fact is not None]
    if not measured or (task.mode != "single" and len(measured) < len(requests)):
        return row
    facts = [fact_from(has.facts[number]["fact"]) for number in measured]  # type: ignore[index]
    row |= {"n": len(facts), **_counts(facts)}
    unedited = replace(task, method=UNEDITED, mode="single")
    was = found(unedited, [requests[number] for number in measured], base)
    if None not in was.facts:
        row |= _scores([fact_from(fact["fact"]) for fact in was.facts if fact], "_before")
        row |= {"perplexity_before": _drift(was)["perplexity"]}
    row |= {**_scores(facts), **_spread(facts, task.seed)}
    row["statistics_cpu_s"] = entries.get("statistics", {}).get("cpu_s")
    row["stale"] = any(entry["code"] != code() for entry in has.entries)
    return row | _drift(has) | _cost(has, len(facts))


def _counts(facts: Sequence[FactScores]) -> Row:
    sizes = [[len(part) for part in prompts(fact)] for fact in facts]
    _, paraphrases, neighbors = map(sum, zip(*sizes, strict=True))
    return {"n_paraphrases": paraphrases, "n_neighbors": neighbors}


def _scores(facts: Sequence[FactScores], when: str = "") -> Row:
    rate = rates(facts)
    return {f"{name}{when}": value for name, value in {"S": harmonic(rate), **rate}.items()}


def _spread(facts: Sequence[FactScores], seed: int) -> Row:
    return {
        f"{name}_{end}": value
        for name, ends in intervals(facts, seed).items()
        for end, value in zip(("low", "high"), ends, strict=True)
    }


def _drift(has: Found) -> Row:
    """Means over single edits, or of the one last state; of the norms the largest."""
    drifts = [entry["drift"] for entry in has.drifts if entry]
    if not drifts:
        return {"kl": None, "perplexity": None, "norm_ratio": None}
    last = {"state": has.drifts[-1].get("state")} if has.drifts[-1] else {}
    mean = {name: sum(d[name] for d in drifts) / len(drifts) for name in ("kl", "perplexity")}
    return {**mean, "norm_ratio": max(drift["norm_ratio"] for drift in drifts), **last}


def _cost(has: Found, facts: int) -> Row:
    """Seconds per edit by stage, and the most memory that one of the edits took."""
    edits = [entry["edit"] for entry in has.edits if entry]
    codes = [edit["failed"] for edit in edits for _ in range(edit["facts"]) if edit["failed"]]
    stages = list(dict.fromkeys(stage for edit in edits for stage in edit["cpu_s"]))
    first = next((edit["why"] for edit in edits if edit["failed"]), "")
    cpu = {s: sum(edit["cpu_s"].get(s, 0.0) for edit in edits) / facts for s in stages}
    wall = sum(s for edit in edits for name, s in edit["wall_s"].items() if name not in _APART)
    return {
        "failed": len(codes),
        "failures": " ".join(f"{each}:{codes.count(each)}" for each in sorted(set(codes))),
        "first_failure": first,
        "edit_cpu_s": sum(value for stage, value in cpu.items() if stage not in _APART),
        "edit_wall_s": wall / facts,
        "peak_mib": max(edit["peak_mib"] for edit in edits),
        "rise_mib": max(edit["rise_mib"] for edit in edits),
        **{f"cpu_s.{stage}": value for stage, value in cpu.items()},
    }


# ---- on paper ------------------------------------------------------------------------------------

_PAIRS = ("ES", "EA", "PS", "NS")
_HEAD = (
    f"{'method':14} {'mode':8} {'n':>3} {'fail':>4}  {'S':20}"
    + "".join(f"  {name:12}" for name in _PAIRS)
    + f" {'KL':>7} {'perplexity':>10} {'|W|/|W0|':>8} {'CPU-s':>7} {'peak':>6} {'rise':>6}"
    "  by stage"
)
CAPTION = """\
S: harmonic mean of ES, PS and NS, with its bootstrap 95 % interval over edits; ES, PS, NS success
and EA accuracy in percent, unedited -> edited. KL in nats a token and perplexity, both on neutral
text, and the largest |W|/|W0|: over single edits the means (of the norm, the largest), else of the
last state. CPU-s: an edit, without statistics; by stage likewise. Memory in MiB: the peak of the
process while it edits, and how far that is above the model loaded, with its statistics. A failed
edit counts as the model unedited."""


def text_of(table: Table, header: str) -> str:
    """The table for a terminal of 180 columns."""
    lines = [header, "", _HEAD, *map(_line, table.rows), "", CAPTION]
    failed = [row for row in table.rows if row.get("failures")]
    lines += [f"{_name(row)}: {row['failures']}; first: {row['first_failure']}" for row in failed]
    if stale := [_name(row) for row in table.rows if row.get("stale")]:
        lines.append(
            f"Made by another state of editing/: {', '.join(stale)}. --redo makes it anew."
        )
    return "\n".join(lines)


def _name(row: Row) -> str:
    return f"{row['method']} {row['mode']}"


def _line(row: Row) -> str:
    start = f"{row['method']:14} {row['mode']:8}"
    if "n" not in row:
        why = row["error"].split("\n")[0] or f"{row['done']} of {row['of']} pieces done"
        return f"{start} {why}"
    cells = "".join(f"  {_number(row.get(f'{p}_before'), 5)}->{row[p]:5.1f}" for p in _PAIRS)
    stages = (key for key in row if key.startswith("cpu_s.") and row[key] >= 0.005)  # noqa: PLR2004
    spent = " ".join(f"{key.removeprefix('cpu_s.')} {row[key]:.2f}" for key in stages)
    unfinished = "" if row["done"] == row["of"] else f"  ({row['done']} of {row['of']} pieces done)"
    return (
        f"{start} {row['n']:3} {row['failed']:4}"
        f"  {row['S']:5.1f} [{row['S_low']:5.1f},{row['S_high']:6.1f}]{cells}"
        f" {_number(row['kl'], 7, 4)} {_number(row['perplexity'], 10, 2)}"
        f" {_number(row['norm_ratio'], 8, 3)} {row['edit_cpu_s']:7.2f}"
        f" {row['peak_mib']:6.0f} {row['rise_mib']:6.0f}  {spent}{unfinished}"
    )


def _number(value: float | None, width: int, places: int = 1) -> str:
    if value is None:
        return "-".rjust(width)
    form = "e" if abs(value) >= 10 ** (width - places - 1) else "f"
    return f"{value:{width}.{1 if form == 'e' else places}{form}}"


def write(table: Table, header: str, stem: Path) -> list[Path]:
    """Write the rows as CSV and JSON beside each other; numbers JSON does not know as text."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in table.rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    paths = [stem.with_suffix(".csv"), stem.with_suffix(".json"), stem.with_suffix(".txt")]
    with paths[0].open("w", newline="", encoding="utf-8") as file:
        sheet = csv.DictWriter(file, columns)
        sheet.writeheader()
        sheet.writerows(rows)
    whole = {"header": header.splitlines(), "about": table.about, "rows": rows}
    paths[1].write_text(json.dumps(whole, indent=1), "utf-8")
    paths[2].write_text(text_of(table, header) + "\n", "utf-8")
    return paths


def _plain(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
