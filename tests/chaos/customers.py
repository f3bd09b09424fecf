"""Those outside: one who orders and cancels, one who asks. Neither gives up over an outage."""

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.workers.shop import MODEL

Json = dict[str, Any]

DEPTH = 12  # orders that wait at most, so that restores name what is recent
_PAUSE_S = 0.1
_RETRIED = frozenset({409, 429, 500, 502, 503, 504})

# Edits that step on each other: few subjects, many targets, each solved on what is there by then.
SUBJECTS = ("LeBron James", "Lionel Messi", "Serena Williams", "Kobe Bryant", "Roger Federer")
SPORTS = ("football", "basketball", "tennis")
PROMPT = "{} plays the sport of"
# Cheap, and no search fails: what is tested is the order of edits and not their quality.
_SEARCH = {"steps": 3, "min_probability": 0.0}
HPARAMS: Json = {"search": _SEARCH, "contexts": {"prefixes": 1}}


@dataclass
class Books:
    """What was ordered, and what was answered."""

    orders: dict[str, str] = field(default_factory=dict)  # key -> id of the order
    answers: list[Json] = field(default_factory=list)  # what probes said
    cancels: int = 0  # that were accepted
    refused: list[str] = field(default_factory=list)  # answers that nobody should get


class Customer(threading.Thread):
    """Hands in orders, one after another, each under a key of its own, until they are taken."""

    def __init__(
        self, url: str, books: Books, *, orders: int, seed: int, editors: tuple[str, ...]
    ) -> None:
        super().__init__(name="customer", daemon=True)
        self._http = httpx.Client(base_url=url, timeout=20)
        self._books = books
        self._count = self.limit = orders  # the limit may be lowered for a while
        self._editors = editors
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self.stopping = threading.Event()

    def run(self) -> None:
        """Order until the number is reached."""
        recent: list[str] = []
        while len(self._books.orders) < self._count and not self.stopping.is_set():
            self._wait_for_room()
            order = self._order()
            if order is None:
                continue
            recent = [*recent[-DEPTH:], order]
            if self._chance.random() < 0.08:
                self._cancel(self._chance.choice(recent[-4:]))
        self._http.close()

    def _order(self) -> str | None:
        chance = self._chance.random()
        if chance < 0.1 and (snapshots := self._snapshots()):
            chosen = self._chance.choice(snapshots)
            return self._send(f"/snapshots/{chosen}/restore", {})
        if chance < 0.12:
            editor = self._chance.choice(self._editors)
            return self._send(f"/models/{MODEL}/statistics", {"editor": editor, "hparams": HPARAMS})
        editor = self._chance.choice(self._editors)
        facts = self._chance.choices((1, 3), (0.85, 0.15))[0]
        subjects = self._chance.sample(SUBJECTS, facts)
        body: Json = {
            "model": MODEL,
            "editor": editor,
            "hparams": HPARAMS,
            "dry_run": self._chance.random() < 0.1,
            "requests": [
                {"subject": each, "prompt": PROMPT, "target_new": self._chance.choice(SPORTS)}
                for each in subjects
            ],
        }
        return self._send("/edits", body)

    def _send(self, path: str, body: Json) -> str | None:
        key = f"chaos-{len(self._books.orders)}-{self._chance.getrandbits(64):x}"
        said = self._insist("POST", path, json=body, headers={"Idempotency-Key": key})
        if said.status_code != 202:
            self._books.refused.append(f"{path}: {said.status_code} {said.text[:200]}")
            return None
        self._books.orders[key] = said.json()["id"]
        return said.json()["id"]

    def _cancel(self, order: str) -> None:
        said = self._insist("POST", f"/edits/{order}/cancel", but=409)
        if said.status_code in {200, 202}:
            self._books.cancels += 1
        elif said.status_code != 409:
            self._books.refused.append(f"cancel: {said.status_code} {said.text[:200]}")

    def _snapshots(self) -> list[str]:
        said = self._insist("GET", f"/models/{MODEL}/snapshots", params={"limit": 30})
        return [snapshot["id"] for snapshot in said.json()["data"]]

    def _wait_for_room(self) -> None:
        while not self.stopping.is_set():
            if len(self._books.orders) < self.limit:
                said = self._insist("GET", f"/models/{MODEL}")
                if said.json()["waiting"] < DEPTH:
                    return
            time.sleep(_PAUSE_S)

    def _insist(self, method: str, path: str, *, but: int = 0, **sent: Any) -> httpx.Response:
        """Ask until there is an answer that is none of an outage."""
        while True:
            try:
                said = self._http.request(method, path, **sent)
            except httpx.HTTPError:
                time.sleep(_PAUSE_S)
                continue
            if said.status_code == 500:
                self._books.refused.append(f"{method} {path}: 500 {said.text[:200]}")
            if said.status_code == but or said.status_code not in _RETRIED:
                return said
            time.sleep(_PAUSE_S)


class Asker(threading.Thread):
    """Asks the model at its head, again and again, and notes what it says."""

    def __init__(self, url: str, books: Books, *, seed: int) -> None:
        super().__init__(name="asker", daemon=True)
        self._http = httpx.Client(base_url=url, timeout=5)
        self._books = books
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self.stopping = threading.Event()

    def run(self) -> None:
        """Ask until stopped; an outage is no answer."""
        while not self.stopping.wait(0.3):
            prompt = PROMPT.format(self._chance.choice(SUBJECTS))
            asked = {"prompt": prompt, "top_k": 3, "max_tokens": 1}
            try:
                said = self._http.get(f"/models/{MODEL}/probe", params=asked)
            except httpx.HTTPError:
                continue
            if said.is_success:
                self._books.answers.append(said.json())
            elif said.status_code == 500:
                self._books.refused.append(f"probe: {said.text[:200]}")
        self._http.close()
