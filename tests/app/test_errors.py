"""Every error has a page, a status, and words that say what to do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.api import health, mistakes, problems
from app.api.problems import every_error, status_of
from editing import knobs
from editing.catalogue import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text("utf-8")
ROW = re.compile(r"^\| `([a-z-]+)` \| (\d{3}) \|", re.MULTILINE)
ROWS = {code: int(status) for code, status in ROW.findall(PAGE)}
FAMILIES = set(re.findall(r"`([a-z-]+)`", PAGE.partition("## Families")[2]))
WRITTEN = re.compile(r"""["']?code["']?\s*[:=]\s*["']([a-z]+(?:-[a-z]+)+)["']""")


def written_codes() -> set[str]:
    """Every code that any source file spells out."""
    rooms = ("app", "workers", "editing")
    texts = [file.read_text("utf-8") for room in rooms for file in (ROOT / room).rglob("*.py")]
    return {code for text in texts for code in WRITTEN.findall(text)}


def known_codes() -> dict[str, int]:
    """Every code that the service can answer with, and its status."""
    plain = {code: status for status, code in problems.PLAIN_CODES.items()}
    kinds = {code: 422 for code, _ in mistakes.KINDS.values()} | {mistakes.OTHER[0]: 422}
    ours = {
        problems.INTERNAL: 500,
        problems.DATABASE_AWAY: 503,
        health.NOT_READY: 503,
        mistakes.WRONG_TYPE: 415,
    }
    classes = {error.code: status_of(error) for error in every_error()}
    return kinds | plain | ours | classes


def test_every_code_is_on_the_page() -> None:
    known = known_codes()
    assert set(ROWS) | FAMILIES == set(known) | written_codes()
    assert {code: ROWS[code] for code in ROWS} == {code: known[code] for code in ROWS}


def test_every_code_belongs_to_one_class() -> None:
    codes = [error.code for error in every_error()]
    assert len(codes) == len(set(codes))


def test_every_error_says_what_it_is() -> None:
    assert [error for error in every_error() if not error.__doc__] == []


def test_the_document_knows_the_problems(standing: TestClient) -> None:
    document = standing.get("/openapi.json").json()
    assert set(document["components"]["schemas"]["Problem"]["required"]) >= {"code", "detail"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    refusals = [
        (path, status, answer)
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    ]
    assert len(refusals) > 20
    for path, status, answer in refusals:
        assert list(answer["content"]) == ["application/problem+json"], (path, status)
    order = document["paths"]["/edits"]["post"]["responses"]
    assert set(order) >= {"200", "202", "400", "404", "409", "412", "422"}
    examples = order["422"]["content"]["application/problem+json"]["examples"]
    assert {"subject-slot-missing", "unknown-editor", "too-many-requests"} <= set(examples)
    assert set(examples) <= set(ROWS)


def test_the_api_never_loads_torch() -> None:
    code = (
        "import sys; from app.main import create_app; create_app();"
        "assert not {'torch', 'transformers', 'workers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/healthz", "/metrics", "/editors"])
def test_what_stands_beside_the_orders(standing: TestClient, path: str) -> None:
    assert standing.get(path).status_code == 200


def test_the_editors_come_with_their_hparams(standing: TestClient) -> None:
    listed = standing.get("/editors").json()
    assert listed["has_more"] is False
    editors = {editor["name"]: editor for editor in listed["data"]}
    assert list(editors) == list(METHODS)
    for name, shown in editors.items():
        assert shown["hparams"] == json.loads(json.dumps(knobs.schema(name)))
        assert shown["paper"] == METHODS[name].paper
    history, ike = editors["memit-history"], editors["ike"]
    assert (history["family"], history["retract"]) == ("closed form", "exact")
    assert history["remembers"]
    assert history["memory"] != "nothing"
    assert "smollm2-135m" in history["models"]
    assert (editors["memit"]["retract"], editors["memit"]["writes"]) == ("dropped", ["down_proj"])
    assert (ike["family"], ike["retract"], ike["writes"]) == ("in context", "exact", [])


def test_the_numbers_tell_of_requests_and_queues(standing: TestClient) -> None:
    standing.get("/models/nobody")
    text = standing.get("/metrics").text
    assert (
        'errata_http_requests_total{method="GET",route="/models/{model_id}",status="404"}' in text
    )
    assert 'errata_head_seq{model="tiny"} 0.0' in text
    assert "errata_outbox_unsent" in text
