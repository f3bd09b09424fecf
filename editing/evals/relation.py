"""Entity edits and relation edits of the same change, each asked from both ends (RaKE)."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from editing.datasets.relation_forms import FORMS, BothEnds
from editing.datasets.sets import LeftOut
from editing.errors import BadRequest, EditFailed
from editing.metrics.answers import replies, says, says_any
from editing.metrics.counterfact import Compared, accuracy_rate, success_rate
from editing.metrics.relation import Ends, measure_ends
from editing.metrics.values import Value, as_json, harmonic, interval, mean_of
from editing.run import under
from editing.step import Step

from .scene import Scene

Json = dict[str, Any]

PERSPECTIVES = ("entity", "relation")
_NAMES = tuple(form.name for form in FORMS.values())
_COMPOSITE = ("e_success", "e_ps", "ns", "r_success", "r_ps")
_MEASURED = (
    "e_success", "e_magnitude", "e_accuracy", "e_generated", "e_ps", "e_pm", "ns", "nm",
    "r_success", "r_magnitude", "r_accuracy", "r_generated", "r_ps", "r_pm", "r_rank", "r_best",
    "removed",
)  # fmt: skip


def measure(scene: Scene, case: BothEnds | LeftOut) -> Generator[Step, None, list[Json]]:
    """One row an edit: the entity's and the relation's; one that failed is a row that says so."""
    if isinstance(case, LeftOut):
        return [{"record": case.number, "skipped": "left-out", "why": case.why}]
    before = yield from _asked(scene, case)
    about: Json = {
        "relation": case.id,
        "name": case.form.name,
        "about": case.form.about,
        "objects": case.form.objects,
        "subject": case.entity.subject,
        "prompt": case.entity.question,
        "target_new": case.entity.target_new,
        "target_true": case.entity.target_true,
    }
    rows: list[Json] = []
    for perspective in PERSPECTIVES:
        request = case.entity if perspective == "entity" else case.relation
        mine = {**about, "edited": perspective}
        try:
            edited = yield from scene.edited([request])
        except (EditFailed, BadRequest) as error:  # the other end may still be written
            rows.append({**mine, "failed": error.code, "why": str(error)})
            continue
        after = yield from under(scene.view, edited.state, _asked(scene, case))
        old = {f"{name}_before": value for name, value in before.items()}
        rows.append({**mine, **after, **old})
    return rows


def _asked(scene: Scene, case: BothEnds) -> Generator[Step, None, Json]:
    """Both ends in the state that is shown."""
    found = yield from measure_ends(scene.view, case, _NAMES)
    row = _scores(found)
    if scene.options.max_tokens:
        asked = [case.entity.question, case.relation.question]
        said = yield from replies(scene.view, asked, scene.options.max_tokens)
        row["e_said"], row["r_said"] = (said[question] for question in asked)
        row["e_generated"] = says(row["e_said"], case.entity.target_new)
        row["r_generated"] = says_any(row["r_said"], (case.form.name, *case.form.others))
    return row


def _scores(found: Ends) -> Json:
    entity, relation = found.entity, found.relation
    return {
        "e_success": entity.prompt.success,
        "e_magnitude": _magnitude([entity.prompt]),
        "e_accuracy": entity.prompt.wanted.greedy,
        "e_ps": success_rate(entity.paraphrases),
        "e_pm": _magnitude(entity.paraphrases),
        "ns": success_rate(entity.neighborhood),
        "nm": _magnitude(entity.neighborhood),
        "ns_accuracy": accuracy_rate(entity.neighborhood),
        "r_success": relation.prompt.success,
        "r_magnitude": _magnitude([relation.prompt]),
        "r_accuracy": relation.prompt.wanted.greedy,
        "r_ps": success_rate(relation.paraphrases),
        "r_pm": _magnitude(relation.paraphrases),
        "r_rank": found.rank,
        "r_best": found.beats_all,
        "r_rival": found.best,
        "removed": found.removed.success,
    }


def _magnitude(found: Sequence[Compared]) -> float | None:
    """How much likelier the wanted answer is, on average."""
    each = [one.wanted.mean_probability - one.rival.mean_probability for one in found]
    return sum(each) / len(each) if each else None


# ---- summary -------------------------------------------------------------------------------------


def summarise(rows: Sequence[Json], _: object) -> Json:
    """The 2x2 of edited and asked perspective, what is transferred, and the split by type."""
    good = [row for row in rows if "edited" in row]
    values: dict[str, Value] = {}
    for edited in PERSPECTIVES:
        mine = [row for row in good if row["edited"] == edited]
        values |= {f"{edited}_{name}": _mean(mine, name) for name in _MEASURED}
        values[f"{edited}_composite"] = _composite(mine)
    for name, first in (
        ("e_success", "relation"),
        ("e_magnitude", "relation"),
        ("r_success", "entity"),
        ("r_magnitude", "entity"),
    ):
        values[f"gap_{name}"] = _gap(good, name, first)
    return {
        "relations": len({row["relation"] for row in good}),
        "skipped": {"left-out": sum(1 for row in rows if "skipped" in row)},
        "values": as_json(values),
        "tables": {"two_by_two": _two_by_two(values), "by_type": _by_type(good)},
    }


def _mean(rows: Sequence[Json], name: str) -> Value:
    def numbers(key: str) -> list[list[float]]:
        return [[float(row[key])] if row.get(key) is not None else [] for row in rows]

    return mean_of(numbers(name), before=numbers(f"{name}_before"), n=len(rows))


def _composite(rows: Sequence[Json]) -> Value:
    """Harmonic mean of efficacy and paraphrase from both ends, and of the neighborhood."""

    def of(some: Sequence[Json], ending: str = "") -> float | None:
        return harmonic([_plain_mean(some, name + ending) for name in _COMPOSITE])

    low, high = interval(rows, of)
    return Value(
        value=of(rows),
        n=len(rows),
        clusters=len(rows),
        low=low,
        high=high,
        before=of(rows, "_before"),
    )


def _gap(rows: Sequence[Json], name: str, first: str) -> Value:
    """After the edit of the other end minus after the edit of its own, record by record.

    Were both edits the same change, as logic has it, this would be 0.
    """
    by_case: dict[int, dict[str, float]] = {}
    for row in rows:
        by_case.setdefault(row["case"], {})[row["edited"]] = float(row[name])
    (own,) = (one for one in PERSPECTIVES if one != first)
    return mean_of([[pair[first] - pair[own]] for pair in by_case.values() if len(pair) > 1])


def _two_by_two(values: dict[str, Value]) -> Json:
    columns = [
        "edited", "asked", "success", "magnitude", "paraphrase", "paraphrase_magnitude",
        "accuracy", "generated", "before",
    ]  # fmt: skip
    names = ("success", "magnitude", "ps", "pm", "accuracy", "generated")
    lines: list[list[Any]] = []
    for edited in PERSPECTIVES:
        for asked in PERSPECTIVES:
            found = [values[f"{edited}_{asked[0]}_{name}"] for name in names]
            lines.append([edited, asked, *(one.value for one in found), found[0].before])
    return {"columns": columns, "rows": lines}


def _by_type(rows: Sequence[Json]) -> Json:
    """The main numbers for relations of one kind: by what they are about, and how many objects."""
    names = ["e_success", "e_magnitude", "r_success", "r_magnitude", "r_rank", "ns"]
    splits: Sequence[tuple[str, Callable[[Json], str]]] = (
        ("about", lambda row: row["about"]),
        ("objects", lambda row: row["objects"]),
        ("relation", lambda row: f"{row['relation']} {row['name']}"),
    )
    lines: list[list[Any]] = []
    for split, kind in splits:
        for value in sorted({kind(row) for row in rows}):
            for edited in PERSPECTIVES:
                mine = [row for row in rows if kind(row) == value and row["edited"] == edited]
                means = [_plain_mean(mine, name) for name in names]
                lines.append([split, value, edited, *means, len(mine)])
    return {"columns": ["split", "type", "edited", *names, "n"], "rows": lines}


def _plain_mean(rows: Sequence[Json], name: str) -> float | None:
    found = [float(row[name]) for row in rows if row[name] is not None]
    return sum(found) / len(found) if found else None
