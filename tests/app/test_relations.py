"""A fact may be ordered from its relation: taken, journaled and shown in the shape it came in."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.hands import FACT, MODEL, Hands

RELATION: dict[str, Any] = {
    "perspective": "relation",
    "subject": "France",
    "object": "Lyon",
    "relation_text": "capital",
    "add_prompt": "The relation between {} and Lyon is",
    "delete_prompt": "The relation between {} and Paris is",
    "relation": "P36",
    "paraphrases": ["Lyon is to France its"],
    "neighborhood": [{"prompt": "The relation between Italy and Rome is", "target": "capital"}],
}


@pytest.mark.parametrize(
    "body", [{"model": MODEL, **RELATION}, {"model": MODEL, "requests": [RELATION]}]
)
def test_it_is_kept_in_its_own_shape(
    hands: Hands, client: TestClient, body: dict[str, Any]
) -> None:
    answer = client.post("/edits", json=body)
    assert answer.status_code == 202
    assert answer.json()["requests"] == [RELATION]
    assert hands.take().requests == [RELATION]
    found = client.get("/edits", params={"subject": "France"}).json()["data"]
    assert [order["id"] for order in found] == [answer.json()["id"]]


def test_a_batch_may_hold_both_kinds(hands: Hands, client: TestClient) -> None:
    entity = {**FACT, "perspective": "entity"}
    answer = client.post("/edits", json={"model": MODEL, "requests": [entity, RELATION, FACT]})
    assert answer.json()["requests"] == [FACT, RELATION, FACT]
    assert hands.take().requests == [FACT, RELATION, FACT]


def test_a_subject_that_is_spelled_out_becomes_its_slot(hands: Hands, client: TestClient) -> None:
    spelled = {**RELATION, "add_prompt": "The relation between France and Lyon is"}
    answer = client.post("/edits", json={"model": MODEL, **spelled})
    assert answer.json()["requests"] == [RELATION]
    assert hands.take().requests == [RELATION]
