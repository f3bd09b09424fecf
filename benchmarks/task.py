"""One row of the table of editors: a method in a mode, and what its finished pieces are called."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.ledger import Entry, digest
from editing.catalogue import METHODS
from editing.datasets.counterfact import read_counterfact
from editing.request import EditRequest

FORMAT = 1  # of the ledgers; raised when old entries no longer mean the same
UNEDITED = "unedited"  # the first row: the model as it is, which every other is compared with
MODES = ("single", "sequence", "batch")

# Methods of one family stand together.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "none": (UNEDITED,),
    "one layer": ("rome", "r-rome", "emmet"),
    "a band": ("memit", "memit-history", "pmet", "alphaedit", "prune", "rect", "attention"),
    "training": ("ft-l", "ft-m", "full-c", "locft", "lora", "ctp"),
    "neurons": ("kn",),
    "one step": ("ultraedit", "ultra-rls"),
    "learned": ("mend",),
    "in context": ("ike",),
    "beside": ("memory",),
}
OTHERS = "others"

# Methods too slow for as many records as the others.
FEWER_RECORDS: Mapping[str, int] = {"kn": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """All that a process needs to know to make one row."""

    method: str = UNEDITED
    mode: str = "single"
    model: str
    data: str
    offset: int
    records: int
    hparams: Mapping[str, object]
    cache: str
    out: str
    threads: int
    seed: int
    redo: bool = False

    @property
    def name(self) -> str:
        """What the row is called while it is made."""
        return f"{self.method} {self.mode}"

    @property
    def family(self) -> str:
        """The methods that it stands with."""
        return next((name for name, of in FAMILIES.items() if self.method in of), OTHERS)

    @property
    def runs(self) -> Path:
        """Where ledgers lie."""
        return Path(self.out) / "runs"

    @property
    def asked(self) -> Entry:
        """What its ledger is known by before the model is loaded."""
        names = ("method", "mode", "model", "hparams", "threads", "seed")
        given = {name: getattr(self, name) for name in names}
        return {"format": FORMAT, **given, "trained": self.trained}

    @property
    def trained(self) -> list[str]:
        """What was trained for the method so far, of which it takes what fits the model."""
        kept = (Path(self.cache) / "statistics").glob(f"{self.method}-*.safetensors")
        return sorted(path.stem for path in kept)

    def requests(self) -> list[EditRequest]:
        """The records that it is made of."""
        file = Path(self.data) / "counterfact" / "counterfact_full.json"
        limit = min(self.records, FEWER_RECORDS.get(self.method, self.records))
        return read_counterfact(file, offset=self.offset, limit=limit)

    def pieces(self, facts: int) -> int:
        """How many entries it has when it is finished."""
        return {"single": facts, "sequence": 2 * facts + 1, "batch": facts + 2}[self.mode]

    def to_json(self) -> str:
        """For the command line of the process that makes it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """From that command line."""
        return cls(**json.loads(text))


def tasks(base: Task, methods: Sequence[str], modes: Sequence[str]) -> list[Task]:
    """`base`, the unedited model, and the rows asked for; only some methods take a batch."""
    order = [name for family in FAMILIES.values() for name in family]
    ranked = sorted(methods, key=lambda name: order.index(name) if name in order else len(order))
    return [replace(base, hparams={})] + [
        replace(base, method=method, mode=mode)
        for mode in modes
        for method in ranked
        if mode != "batch" or METHODS[method].batch
    ]


# ---- the names of entries: what was done, to what state ------------------------------------------


def key_of(kind: str, requests: Sequence[EditRequest], state: str = "") -> str:
    """The key of an edit ("edit"), of an edit measured at once ("single"), or of a measurement."""
    return digest(kind, state, *(json.dumps(r.to_dict(), sort_keys=True) for r in requests))


def state_after(key: str, entry: Entry) -> str:
    """The name of the state that an edit led to: by what it changed, not only what was asked."""
    return digest(key, entry["blob"] or "")


@dataclass(frozen=True, slots=True)
class Found:
    """What a ledger has of a task, in order; None where a piece is missing."""

    edits: list[Entry | None]
    facts: list[Entry | None]
    drifts: list[Entry | None]

    @property
    def entries(self) -> list[Entry]:
        """The pieces that are there."""
        together = self.edits is self.facts  # one piece each, in mode "single"
        pieces = self.edits if together else [*self.edits, *self.facts, *self.drifts]
        return [piece for piece in pieces if piece is not None]


def found(task: Task, requests: Sequence[EditRequest], entries: Mapping[str, Entry]) -> Found:
    """Look up all pieces of a task."""
    if task.mode == "single":
        each = [entries.get(key_of("single", [request])) for request in requests]
        return Found(each, each, each)
    groups = [[request] for request in requests] if task.mode == "sequence" else [list(requests)]
    edits: list[Entry | None] = []
    state = ""
    for group in groups:
        key = key_of("edit", group, state)
        edit = entries.get(key)
        edits.append(edit)
        if edit is None:
            rest = len(groups) - len(edits)
            return Found([*edits, *[None] * rest], [None] * len(requests), [None])
        state = state_after(key, edit)
    facts = [entries.get(key_of("fact", [request], state)) for request in requests]
    return Found(edits, facts, [entries.get(key_of("drift", [], state))])
