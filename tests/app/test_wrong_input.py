"""Whatever is wrong with a request, the answer is a problem with a code and what to do next."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.api import health
from app.main import create_app
from app.settings import Settings
from tests.app.hands import FACT, MODEL, Hands

ORDER: dict[str, Any] = {"model": MODEL, **FACT}
GONE = "0" * 26
FIELD = st.sampled_from(
    ["model", "editor", "hparams", "requests", "source", "id", "kind", "path", "prompts", *ORDER]
) | st.text(max_size=3)


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    said = answer.json()
    assert (answer.status_code, said.get("code")) == (status, code), said
    assert answer.headers["content-type"] == "application/problem+json"
    assert said["status"] == status
    assert said["type"] == f"urn:errata:error:{code}"
    assert said["title"]
    assert len(said["detail"].split()) > 5  # a sentence, not a word
    return said


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"prompt": "no slot"}, 422, "subject-slot-missing"),
        ({"prompt": "{} and {}"}, 422, "subject-slot-missing"),
        ({"target_new": ""}, 422, "empty-field"),
        ({"target_new": "  "}, 422, "empty-field"),
        ({"subject": ""}, 422, "empty-field"),
        ({"target_new": "long " * 1000}, 422, "target-too-long"),
        ({"model": "nobody"}, 404, "model-not-found"),
        ({"model": "../etc"}, 404, "model-not-found"),
        ({"editor": "nope"}, 422, "unknown-editor"),
        ({"hparams": {"nope": 1}}, 422, "unknown-hparam"),
        ({"hparams": {"search": {"nope": 1}}}, 422, "unknown-hparam"),
        ({"hparams": {"search": {"steps": "many"}}}, 422, "invalid-hparam"),
        ({"hparams": {"search": {"steps": -1}}}, 422, "invalid-hparam"),
        ({"hparams": []}, 422, "invalid-request"),
        ({"target_new": 7}, 422, "invalid-request"),
        ({"subject": None}, 422, "invalid-request"),
        ({"paraphrases": "one"}, 422, "invalid-request"),
        ({"paraphrases": [""]}, 422, "empty-field"),
        ({"neighborhood": [{"prompt": "x"}]}, 422, "invalid-request"),
        ({"ripples": [{"prompt": "x", "answers": []}]}, 422, "empty-field"),
        ({"colour": "red"}, 422, "unknown-field"),
        ({"requests": [FACT]}, 422, "requests-twice"),
        ({"subject": "nul \0"}, 422, "unstorable-text"),
        ({"hparams": {"nul \0": 1}}, 422, "unstorable-text"),
    ],
)
def test_an_order_that_cannot_be_meant(
    standing: TestClient, change: dict[str, Any], status: int, code: str
) -> None:
    refused(standing.post("/edits", json={**ORDER, **change}), status, code)


RELATION: dict[str, Any] = {
    "perspective": "relation",
    "subject": "France",
    "object": "Lyon",
    "relation_text": "capital",
    "add_prompt": "The relation between {} and Lyon is",
    "delete_prompt": "The relation between France and Paris is",
}


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"object": None}, "invalid-request", "object"),
        ({"object": 5}, "invalid-request", "object"),
        ({"object": " "}, "empty-field", "object is empty"),
        ({"relation_text": ""}, "empty-field", "relation_text is empty"),
        ({"relation_text": "x" * 501}, "target-too-long", "Shorten"),
        ({"add_prompt": ""}, "empty-field", "add_prompt is empty"),
        ({"add_prompt": "Of Lyon it is"}, "subject-slot-missing", "exactly one {}"),
        ({"delete_prompt": "{} and {}"}, "subject-slot-missing", "exactly one {}"),
        ({"delete_prompt": "France, France"}, "subject-slot-missing", "exactly one {}"),
        ({"delete_prompt": ["x"]}, "invalid-request", "delete_prompt"),
        ({"prompt": "{} is"}, "unknown-field", "prompt: of a request seen from the entity"),
        ({"target_true": "Paris"}, "unknown-field", "relation_text for target_new"),
        ({"colour": "red"}, "unknown-field", "colour"),
    ],
)
def test_a_relation_that_cannot_be_meant(
    standing: TestClient, change: dict[str, Any], code: str, says: str
) -> None:
    for body in ({**RELATION, **change}, {"requests": [RELATION, {**RELATION, **change}]}):
        assert says in refused(standing.post("/edits", json=body), 422, code)["detail"]


def test_the_fields_of_a_relation_say_whose_they_are(standing: TestClient) -> None:
    for body in (
        {**ORDER, "relation_text": "capital"},
        {"requests": [{**FACT, "relation_text": "x"}]},
    ):
        said = refused(standing.post("/edits", json=body), 422, "unknown-field")
        assert 'send "perspective": "relation" with it' in said["detail"]
    for wrong in ("both", 5, None):
        said = refused(
            standing.post("/edits", json={**ORDER, "perspective": wrong}), 422, "invalid-request"
        )
        assert "'entity' or 'relation'" in said["detail"]
    missing = {name: value for name, value in RELATION.items() if name != "add_prompt"}
    said = refused(standing.post("/edits", json=missing), 422, "invalid-request")
    assert "body.add_prompt" in said["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("", 422, "invalid-request"),
        ("null", 422, "invalid-request"),
        ("[]", 422, "invalid-request"),
        ('"text"', 422, "invalid-request"),
        ("{", 400, "bad-json"),
        ("{'subject': 1}", 400, "bad-json"),
        (b"\xff\xfe{}", 400, "bad-json"),
        ("[" * 100_000, 400, "bad-json"),
        ('{"hparams": {"second_moment_weight": NaN}}', 422, "non-finite-value"),
        ('{"hparams": {"second_moment_weight": -Infinity}}', 422, "non-finite-value"),
        ('{"hparams": {"second_moment_weight": 1e999}}', 422, "non-finite-value"),
        ('{"hparams": {"deep": [[{"x": 1e999}]]}}', 422, "non-finite-value"),
        (json.dumps({**ORDER, "subject": "\ud800"}), 422, "unstorable-text"),
        ('{"hparams": ' + '{"a":' * 300 + "1" + "}" * 301, 422, "invalid-request"),
        ('{"hparams": {"search": {"steps": ' + "9" * 4000 + "}}}", 422, "invalid-request"),
        ('{"requests": []}', 422, "no-requests"),
        ('{"requests": {}}', 422, "invalid-request"),
        ('{"requests": [7]}', 422, "invalid-request"),
        ('{"hparams": {"search": {"steps": ' + "9" * 5000 + "}}}", 400, "bad-json"),
        ('{"padding": "' + "x" * (1 << 20) + '"}', 413, "body-too-large"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str | bytes) else None,
)
def test_a_body_that_cannot_be_read(
    standing: TestClient, body: str | bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    refused(standing.post("/edits", content=body, headers=headers), status, code)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD, inner, max_size=4),
    max_leaves=8,
)


@examples(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=st.sampled_from(["/edits", "/models", f"/models/{MODEL}/probe"]), body=JSON)
def test_no_body_breaks_the_service(standing: TestClient, path: str, body: object) -> None:
    headers = {"Content-Type": "application/json"}
    answer = standing.post(path, content=json.dumps(body), headers=headers)
    assert answer.status_code in {200, 201, 202, 404, 409, 422, 503}, answer.text


def test_the_thousand_and_first_request(standing: TestClient) -> None:
    body = {"model": MODEL, "requests": [FACT] * 1001}
    said = refused(standing.post("/edits", json=body), 422, "too-many-requests")
    assert (said["count"], said["limit"]) == (1001, 1000)


def test_a_list_beyond_all_bounds_is_refused_unread(standing: TestClient) -> None:
    answer = standing.post("/edits", json={"model": MODEL, "requests": [1] * 10_001})
    assert (answer.status_code, answer.json()["code"]) == (422, "too-many-requests")
    answer = standing.post("/edits", json={"model": MODEL, **FACT, "paraphrases": ["x"] * 101})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_a_refusal_is_not_as_long_as_what_it_refuses(standing: TestClient) -> None:
    hparams = {"x" * 100_000: 1}
    answer = standing.post("/edits", json={"model": MODEL, **FACT, "hparams": hparams})
    assert answer.json()["code"] == "unknown-hparam"
    assert len(answer.content) < 20_000


def test_broken_json_says_where(standing: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = standing.post("/edits", content=b'{"subject": "x" "y"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-json")
    assert "delimiter, near character 16" in answer.json()["detail"]


def test_which_request_of_a_batch_is_wrong(standing: TestClient) -> None:
    body = {"model": MODEL, "requests": [FACT, {**FACT, "prompt": "x"}]}
    assert refused(standing.post("/edits", json=body), 422, "subject-slot-missing")["request"] == 1
    body = {"model": MODEL, "requests": [FACT, {**FACT, "colour": "red"}]}
    said = refused(standing.post("/edits", json=body), 422, "unknown-field")
    assert said["errors"][0]["where"] == "body.requests[1].colour"


def test_a_body_that_is_not_sent_as_json(standing: TestClient) -> None:
    answer = standing.post("/edits", data={"subject": "France"})
    refused(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("name", "value"),
    [("If-Match", "snp_1"), ("If-Match", '"a", "b"'), ("Idempotency-Key", "k" * 256)],
)
def test_a_header_that_cannot_be_read(standing: TestClient, name: str, value: str) -> None:
    answer = standing.post("/edits", json=ORDER, headers={name: value})
    assert refused(answer, 400, "bad-header")["header"] == name


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("PUT", "/edits", 405, "method-not-allowed"),
        ("PUT", f"/models/{MODEL}", 405, "method-not-allowed"),
        ("GET", f"/edits/edt_{GONE}", 404, "edit-not-found"),
        ("GET", "/edits/%00", 404, "edit-not-found"),
        ("GET", f"/edits/edt_{GONE}/events", 404, "edit-not-found"),
        ("GET", "/edits?limit=0", 422, "invalid-request"),
        ("GET", "/edits?limit=many", 422, "invalid-request"),
        ("GET", "/edits?status=lost", 422, "invalid-request"),
        ("GET", "/edits?model=nobody", 404, "model-not-found"),
        ("GET", f"/edits?after=edt_{GONE}", 404, "edit-not-found"),
        ("GET", "/edits?after=%00", 404, "edit-not-found"),
        ("GET", "/models/nobody", 404, "model-not-found"),
        ("GET", "/models/%00", 404, "model-not-found"),
        ("DELETE", "/models/nobody", 404, "model-not-found"),
        ("GET", "/models/nobody/snapshots", 404, "model-not-found"),
        ("GET", "/models/%00/snapshots", 404, "model-not-found"),
        ("GET", f"/models/{MODEL}/snapshots?after=snp_{GONE}", 404, "snapshot-not-found"),
        ("GET", f"/snapshots/snp_{GONE}", 404, "snapshot-not-found"),
        ("POST", f"/snapshots/snp_{GONE}/restore", 404, "snapshot-not-found"),
        ("GET", "/models/nobody/probe?prompt=x", 404, "model-not-found"),
        ("GET", f"/models/{MODEL}/probe", 422, "invalid-request"),
        ("GET", f"/models/{MODEL}/probe?prompt=", 422, "invalid-request"),
        ("GET", f"/models/{MODEL}/probe?prompt=%00", 422, "unstorable-text"),
        ("GET", f"/models/{MODEL}/probe?prompt=x&top_k=-1", 422, "invalid-request"),
        ("GET", f"/models/{MODEL}/probe?prompt=x&target=", 422, "invalid-request"),
        ("GET", f"/models/{MODEL}/probe?prompt=x&snapshot=snp_1", 404, "snapshot-not-found"),
        ("GET", f"/models/{MODEL}/probe?prompt=x", 503, "queue-unavailable"),
    ],
)
def test_a_path_that_leads_nowhere(
    standing: TestClient, method: str, path: str, status: int, code: str
) -> None:
    refused(standing.request(method, path), status, code)


def test_a_filter_that_matches_nothing_is_no_error(standing: TestClient) -> None:
    answer = standing.get("/edits", params={"subject": "nul \0"})
    assert (answer.status_code, answer.json()["data"]) == (200, [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"prompts": []}, "invalid-request"),
        ({"prompts": [""]}, "invalid-request"),
        ({"prompts": ["x"] * 257}, "invalid-request"),
        ({"prompts": ["x"], "top_k": 1.5}, "invalid-request"),
        ({"prompts": ["x"], "max_tokens": 100_000}, "invalid-request"),
        ({"prompts": ["x"], "answer": "y"}, "unknown-field"),
        ({}, "invalid-request"),
    ],
)
def test_a_probe_that_cannot_be_meant(
    standing: TestClient, body: dict[str, Any], code: str
) -> None:
    refused(standing.post(f"/models/{MODEL}/probe", json=body), 422, code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"source": "what is this"}, "bad-source"),
        ({"source": ""}, "bad-source"),
        ({"source": {"kind": "disk"}}, "bad-source"),
        ({"source": {"kind": ["hub"]}}, "bad-source"),
        ({"source": {"kind": "hub"}}, "bad-source"),
        ({"source": {"kind": "hub", "id": "a b"}}, "bad-source"),
        ({"source": {"kind": "hub", "id": 7}}, "bad-source"),
        ({"source": {"kind": "named", "name": "gpt-5"}}, "bad-source"),
        ({"source": {"kind": "folder", "path": "x", "more": "y"}}, "bad-source"),
        ({"source": "org/name", "id": "Not An Id"}, "bad-model-id"),
        ({"source": "org/name", "id": ""}, "bad-model-id"),
        ({"source": "/etc"}, "source-not-allowed"),
        ({"source": 7}, "invalid-request"),
        ({"id": "x"}, "invalid-request"),
    ],
)
def test_a_model_that_cannot_be_registered(
    standing: TestClient, body: dict[str, Any], code: str
) -> None:
    refused(standing.post("/models", json=body), 422, code)


def test_a_snapshot_of_another_model(standing: TestClient, standing_hands: Hands) -> None:
    other = Hands(standing_hands.database, model="other").register().own().load()
    theirs = other.head.id
    for answer in (
        standing.post(f"/models/{MODEL}/probe", json={"prompts": ["x"], "snapshot": theirs}),
        standing.post(f"/models/{MODEL}/probe", json={"prompts": ["x"], "compare": theirs}),
        standing.get(f"/models/{MODEL}/snapshots", params={"after": theirs}),
        standing.post(f"/snapshots/{theirs}/restore", json={"model": MODEL}),
    ):
        said = refused(answer, 422, "snapshot-of-another-model")
        assert (said["snapshot"], said["owner"]) == (theirs, "other")
    answer = standing.post("/edits", json=ORDER, headers={"If-Match": f'"{theirs}"'})
    refused(answer, 412, "head-moved")


def test_the_database_is_away(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://errata@/none?host=/nowhere"})
    with TestClient(create_app(away)) as client:
        answer = client.post("/edits", json=ORDER)
        refused(answer, 503, "database-unavailable")
        assert answer.headers["retry-after"] == "2"
        said = refused(client.get("/readyz"), 503, health.NOT_READY)
        assert (said["checks"]["redis"], said["checks"]["migrations"]) == ("ok", "unknown")
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200


def test_a_database_without_its_schema_is_not_ready(
    settings: Settings, empty_postgres_url: str
) -> None:
    empty = settings.model_copy(update={"database_url": empty_postgres_url})
    with TestClient(create_app(empty)) as client:
        said = refused(client.get("/readyz"), 503, health.NOT_READY)
    assert said["checks"] == {"postgres": "ok", "migrations": "not at head", "redis": "ok"}


def test_what_nobody_foresaw_is_a_problem_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.edits.get", lambda *_: 1 // 0)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        refused(client.get(f"/edits/edt_{GONE}"), 500, "internal-error")
