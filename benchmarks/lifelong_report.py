"""Long runs of edits side by side: a table in Markdown, a sheet, and the score by edits made."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_HEADLINE = {"counterfact": "S", "zsre": "score"}
_APART = ("model", "given", "start", "seed", "target")  # what tells runs of one editor apart

_CAPTION = """\
In percent, with bootstrap 95 % intervals over records; in parentheses the unedited model on the \
same questions. All records so far are asked at each checkpoint. A failed edit counts as not \
answered; a record that a later one contradicts is asked for the later one's answer. Perplexity \
on the project's neutral texts and on running text{named}, unedited -> now; growth: norm over its \
base norm, of the weight that grew most. CPU-s an edit: the median of the last ten, of the edit \
alone."""


def written(runs: Sequence[Path], out: Path) -> tuple[str, list[Path]]:
    """The table, and the files that were written below `out`."""
    found = [json.loads((run / "summary.json").read_text("utf-8")) for run in runs]
    by: dict[str, list[Json]] = {}
    for summary in found:
        by.setdefault(summary["made_by"]["dataset"], []).append(summary)
    texts: list[str] = []
    paths: list[Path] = []
    out.mkdir(parents=True, exist_ok=True)
    for dataset, some in by.items():
        stem = out / f"lifelong-{dataset}"
        text = _text(dataset, some)
        stem.with_suffix(".md").write_text(text + "\n", "utf-8")
        _sheet(some, stem.with_suffix(".csv"))
        paths += [stem.with_suffix(".md"), stem.with_suffix(".csv")]
        paths += _picture(dataset, some, stem.with_suffix(".png"))
        texts.append(text)
    return "\n\n".join(texts), paths


def names_of(summaries: Sequence[Json]) -> list[str]:
    """The editor of each run, with what it was given where that tells it from others."""
    about = [summary["made_by"] for summary in summaries]
    differ = [k for k in _APART if len({json.dumps(a.get(k), sort_keys=True) for a in about}) > 1]
    return [
        " ".join([a["method"], *(f"{k} {json.dumps(a.get(k))}" for k in differ if a.get(k))])
        for a in about
    ]


def rows_of(summaries: Sequence[Json]) -> list[Json]:
    """A row a run and checkpoint, flat."""
    rows: list[Json] = []
    for name, summary in zip(names_of(summaries), summaries, strict=True):
        for at in summary["checkpoints"]:
            row: Json = {"run": name, "editor": summary["made_by"]["method"]}
            row |= {k: at[k] for k in ("n", "failed", "superseded")}
            for measure, value in at["values"].items():
                row |= {measure: value["value"]}
                row |= {f"{measure}_{part}": value[part] for part in ("low", "high", "n", "before")}
            for part in ("perplexity", "running", "kl"):
                row |= {part: at["being"][part], f"{part}_before": at["being_before"][part]}
            row["norm_ratio"] = at["being"]["norm_ratio"]
            row |= {f"norm.{weight}": ratio for weight, ratio in at["being"]["norms"].items()}
            row |= {k: at[k] for k in ("cpu_s_recent", "cpu_s", "wall_s", "bytes", "state")}
            rows.append(row)
    return rows


def _text(dataset: str, summaries: Sequence[Json]) -> str:
    rows, names = rows_of(summaries), list(summaries[0]["checkpoints"][0]["values"])
    heads = ["run", "n", "failed", *names, "perplexity", "running text", "KL", "growth"]
    heads += ["CPU-s an edit", "CPU-s in all"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row["run"], f"{row['n']:,}", str(row["failed"])]
        cells += [_value(row, name) for name in names]
        cells += [_pair(row, part) for part in ("perplexity", "running")]
        cells += [_number(row["kl"], 3), _number(row["norm_ratio"], 3)]
        cells += [_number(row["cpu_s_recent"], 2), _number(row["cpu_s"], 0)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*_about(dataset, summaries), "", *lines, "", *_notes(summaries)])


def _about(dataset: str, summaries: Sequence[Json]) -> list[str]:
    made = summaries[0]["made_by"]
    last = made["start"] + max(at["n"] for s in summaries for at in s["checkpoints"]) - 1
    parts = [f"model {made['model']} {made['fingerprint'][:23]}", f"{made['dtype']}"]
    parts += [f"torch {made['torch']}", f"{dataset} {made['start']}..{last} of its order"]
    parts += [f"seed {made['seed']}", f"threads {made['threads']}"]
    return [", ".join(parts) + "."]


def _notes(summaries: Sequence[Json]) -> list[str]:
    lines = [_CAPTION.format(named=_named(summaries))]
    for name, summary in zip(names_of(summaries), summaries, strict=True):
        last = summary["checkpoints"][-1]
        told = [f"{code} {count}" for code, count in last["failures"].items()]
        more = [f"{last['superseded']} superseded"] if last["superseded"] else []
        if len(summary["codes"]) > 1:
            more.append(f"made by {len(summary['codes'])} states of editing/")
        if told or more:
            lines.append(f"{name}: {', '.join([*told, *more])}.")
    return lines


def _named(summaries: Sequence[Json]) -> str:
    names = {summary["text"] for summary in summaries} - {""}
    return f" ({'; '.join(sorted(names))})" if names else ""


def _value(row: Mapping[str, Any], name: str) -> str:
    ends = ", ".join(_number(row[f"{name}_{end}"], 1) for end in ("low", "high"))
    return f"{_number(row[name], 1)} [{ends}] ({_number(row[f'{name}_before'], 1)})"


def _pair(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return "-"
    return f"{_number(row[f'{name}_before'], 2)} -> {_number(row[name], 2)}"


def _number(value: float | None, places: int) -> str:
    if value is None:
        return "-"
    form = "e" if abs(value) >= 1e6 else "f"  # noqa: PLR2004 - a model that fell apart
    return f"{value:.{1 if form == 'e' else places}{form}}"


def _sheet(summaries: Sequence[Json], path: Path) -> None:
    rows = rows_of(summaries)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        sheet = csv.DictWriter(file, columns)
        sheet.writeheader()
        sheet.writerows(rows)


def _picture(dataset: str, summaries: Sequence[Json], path: Path) -> list[Path]:
    try:
        from benchmarks.lifelong_figure import draw  # noqa: PLC0415 - a table needs no matplotlib
    except ImportError:
        print("no picture: it needs matplotlib (pip install -e '.[bench]')", file=sys.stderr)
        return []
    draw(rows_of(summaries), _HEADLINE[dataset], " ".join(_about(dataset, summaries)), path)
    return [path]
