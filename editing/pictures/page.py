"""One HTML page of one eval or benchmark: numbers, tables and pictures, nothing from outside."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Json = dict[str, Any]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd }
td.number { text-align: right } svg { max-width: 100%; height: auto } code { font-size: 12px }
"""
_SHOWN = 200  # rows on the page; the others are in the API
_COLUMNS = ("value", "low", "high", "before", "n", "n_testable", "clusters")


def page(
    title: str,
    facts: Mapping[str, object],
    summary: Json,
    pictures: Mapping[str, str],
    rows: Sequence[Json] = (),
) -> str:
    """The page; `pictures` are SVG by name, `facts` say what was measured and how."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        _pairs(facts),
        *_summaries(summary),
        *(f"<h2>{escape(name)}</h2>{_inline(svg)}" for name, svg in pictures.items()),
        _rows(rows),
    ]
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"


def _summaries(summary: Json) -> list[str]:
    if "snapshots" in summary:
        return [
            f"<h2>snapshot {escape(str(each['snapshot']))}</h2>" + "".join(_summary(each))
            for each in summary["snapshots"]
        ]
    return _summary(summary)


def _summary(summary: Json) -> list[str]:
    parts = ["<h2>Values</h2>", _values(summary.get("values", {}))]
    for name, table in summary.get("tables", {}).items():
        parts += [f"<h2>{escape(name)}</h2>", _table(table["columns"], table["rows"])]
    if failed := summary.get("failed"):
        parts += ["<h2>Not measured</h2>", _table(["why", "cases"], list(failed.items()))]
    known = ("values", "tables", "failed", "cases", "rows")
    parts.append(_pairs({name: value for name, value in summary.items() if name not in known}))
    return parts


def _values(values: Json) -> str:
    rows = [[name, *(value.get(column) for column in _COLUMNS)] for name, value in values.items()]
    heads = ["", "value", "95 % from", "to", "before", "n", "n testable", "edits"]
    return _table(heads, rows)


def _rows(rows: Sequence[Json]) -> str:
    if not rows:
        return ""
    told = [json.dumps(row, ensure_ascii=False) for row in rows[:_SHOWN]]
    more = f"<p>{len(rows) - _SHOWN} more.</p>" if len(rows) > _SHOWN else ""
    listed = "".join(f"<li><code>{escape(each)}</code></li>" for each in told)
    return (
        f"<details><summary>{len(rows)} rows</summary><ol start='0'>{listed}</ol>{more}</details>"
    )


def _pairs(pairs: Mapping[str, object]) -> str:
    told = {name: value for name, value in pairs.items() if value not in (None, {}, [])}
    return _table(["", ""], [[name, value] for name, value in told.items()]) if told else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return f"<td>{'' if value is None else str(value).lower()}</td>"
    if isinstance(value, int | float):
        return (
            f"<td class='number'>{value:.4g}</td>"
            if isinstance(value, float)
            else (f"<td class='number'>{value}</td>")
        )
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"<td>{escape(text)}</td>"


def _inline(svg: str) -> str:
    """The drawing alone, without the XML declaration that a page does not take."""
    return svg[svg.index("<svg") :]
