"""Answers of the API for tests, whole: what the server's own shapes make of a row."""

from typing import Any

Json = dict[str, Any]

AT = "2030-01-02T03:04:05Z"
EVL = "evl_" + "0" * 26
EDT, SNP = "edt_" + "0" * 25, "snp_" + "0" * 25  # an id is one of these and one more character
FACT = {"subject": "France", "prompt": "The capital of {} is", "target_new": "Lyon"}
REPORT = {
    "efficacy": {
        "success": {"value": 1.0, "n": 1, "before": 0.0},
        "accuracy": {"value": 1.0, "n": 1, "before": 0.0},
    },
    "paraphrase": {"value": 0.5, "n": 2, "before": 0.0},
}


def order(status: str = "applied", number: int = 1, **more: Any) -> Json:
    """An order; applied ones have a snapshot and a report."""
    done = status == "applied"
    return {
        "id": f"{EDT}{number}",
        "model": "m",
        "kind": "edit",
        "editor": "rome",
        "ord": number,
        "status": status,
        "requests": [FACT],
        "hparams": {},
        "source": None,
        "parent": f"{SNP}1",
        "snapshot": f"{SNP}2" if done else None,
        "live": done,
        "taken_out_by": None,
        "noop": False,
        "dry_run": False,
        "cancel_requested": False,
        "blocked": None,
        "report": REPORT if done else None,
        "error": None,
        "progress": None,
        "timings": None,
        "attempts": 1,
        "created_at": AT,
        "started_at": AT,
        "settled_at": AT if done else None,
    } | more


def brief(number: int = 1, status: str = "applied") -> Json:
    """An order, told in short."""
    whole = order(status, number)
    return {name: whole[name] for name in ("id", "ord", "kind", "editor", "status", "requests")}


def snapshot(seq: int = 0, **more: Any) -> Json:
    """A snapshot; that with seq 0 is the base."""
    return {
        "id": f"{SNP}{seq + 1}",
        "model": "m",
        "seq": seq,
        "parent": f"{SNP}{seq}" if seq else None,
        "kind": "edit" if seq else "base",
        "label": None,
        "edits": [f"{EDT}{number + 1}" for number in range(seq)],
        "taken_out": [],
        "preface": "",
        "fingerprint": "sha256:" + "ab" * 32,
        "report": None,
        "source": None,
        "edit": f"{EDT}{seq}" if seq else None,
        "created_at": AT,
    } | more


def model(**more: Any) -> Json:
    """A model that is served."""
    return {
        "id": "m",
        "source": {"kind": "named", "name": "smollm2-135m"},
        "head": f"{SNP}1",
        "fingerprint": "sha256:" + "ab" * 32,
        "status": "ready",
        "seq": 0,
        "base_fingerprint": "sha256:" + "ab" * 32,
        "serving": True,
        "waiting": 0,
        "info": None,
        "error": None,
        "created_at": AT,
    } | more


def probe(**more: Any) -> Json:
    """What a model says to one prompt."""
    return {
        "model": "m",
        "snapshot": f"{SNP}1",
        "prompt": "The capital of France is",
        "completion": " Paris.\n",
        "top": [{"token": " Paris", "p": 0.77}],
        "targets": [{"text": "Lyon", "logprob": -6.9, "n_tokens": 1}],
    } | more


VALUE = {"value": 0.5, "n": 4, "n_testable": 3, "clusters": 2, "low": 0.2, "high": 0.8, "before": 0}
SUMMARY = {
    "cases": 2,
    "rows": 3,
    "failed": {"search-diverged": 1},
    "values": {"efficacy.success": VALUE},
    "tables": {"by k": {"columns": ["k", "sd"], "rows": [[2, -1.5], [4, None]]}},
}


def measurement(status: str = "finished", **more: Any) -> Json:
    """An eval."""
    done = status == "finished"
    return {
        "id": EVL,
        "model": "m",
        "suite": "efficacy",
        "status": status,
        "snapshot": f"{SNP}1",
        "snapshots": None,
        "editor": "rome",
        "hparams": {},
        "options": {},
        "data": {"records": 2},
        "progress": {"done": 2 if done else 1, "total": 2, "rate": 0.5, "eta_s": 2.0},
        "summary": SUMMARY if done else None,
        "plots": ["scores"],
        "error": None,
        "cancel_requested": False,
        "created_at": AT,
        "started_at": AT,
        "settled_at": AT if done else None,
    } | more


def suite() -> Json:
    """A kind of measurement."""
    return {
        "name": "efficacy",
        "title": "Efficacy",
        "source": "METRICS",
        "summary": "Whether edits hold.",
        "editor": "if named",
        "datasets": [],
        "plots": ["scores"],
        "options": {},
    }


def forecast() -> Json:
    """What an edit would move."""
    return {
        "model": "m",
        "snapshot": f"{SNP}1",
        "ripples": [
            {"prompt": "Italy's is", "answer": "Rome", "gradsim": 0.4, "likely": True},
            {"prompt": "Spain's is", "answer": "Madrid", "gradsim": -0.1, "likely": False},
        ],
        "collisions": [{"edit": f"{EDT}1", "cosine": 0.97}],
    }


def editor() -> Json:
    """An editor."""
    return {
        "name": "rome",
        "title": "ROME",
        "paper": "2202.05262",
        "summary": "One fact, one layer.",
        "family": "closed form",
        "batch": False,
        "writes": ["down_proj"],
        "remembers": False,
        "memory": "nothing",
        "retract": "dropped",
        "models": ["smollm2-135m"],
        "hparams": {},
    }


def diff() -> Json:
    """What lies between two snapshots."""
    return {
        "from": f"{SNP}1",
        "to": f"{SNP}2",
        "model": "m",
        "removed": [],
        "added": [brief(1)],
        "same_weights": False,
        "same_preface": True,
        "same_memory": True,
    }


def plan() -> Json:
    """What a restore would do."""
    return {
        "snapshot": f"{SNP}1",
        "model": "m",
        "head": f"{SNP}2",
        "seq": 0,
        "undone": [brief(1)],
        "redone": [],
        "queued": [brief(2, "queued")],
    }


def page(*data: Json, following: str | None = None) -> Json:
    """A page of a list."""
    return {"data": list(data), "has_more": following is not None, "next": following}


def problem(status: int, code: str, **fields: Any) -> Json:
    """A problem+json."""
    urn = f"urn:errata:error:{code}"
    said = {"type": urn, "title": "No", "status": status, "code": code, "detail": "Why."}
    return fields | said


COMPACTED: Json = {
    "edits": 2,
    "entries": {"before": 3, "value": 1},
    "bytes": {"before": 900, "value": 400},
}
STATISTICS = {
    "statistics": [{"layer": 3, "tokens": 2000, "text": "corpus"}],
    "seconds": 1.5,
    "collected": True,
}

APPLIED, RUNNING, QUEUED = order(), order("running", 2), order("queued", 3)
BASE, EDITED = snapshot(0), snapshot(1, label="before-launch")
