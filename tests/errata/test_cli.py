"""The commands, each against a fake server: what they print, and how they end."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from errata.cli.main import app

MODEL = {
    "id": "m",
    "source": {"kind": "named", "name": "smollm2-135m"},
    "head": "snp_1",
    "fingerprint": "sha256:" + "ab" * 32,
    "status": "ready",
}
SNAPSHOT = {
    "id": "snp_1",
    "model": "m",
    "seq": 0,
    "parent": None,
    "kind": "base",
    "label": None,
    "edits": [],
    "fingerprint": "sha256:" + "ab" * 32,
    "report": None,
    "created_at": "2030-01-02T03:04:05Z",
}
PROBE = {
    "model": "m",
    "snapshot": "snp_1",
    "prompt": "The capital of France is",
    "completion": " Paris.\n",
    "top": [{"token": " Paris", "p": 0.77}],
    "targets": [{"text": "Lyon", "logprob": -6.9, "n_tokens": 1}],
}
EDITOR = {
    "name": "rome",
    "paper": "2202.05262",
    "summary": "One fact, one layer.",
    "batch": False,
    "remembers": False,
    "hparams": {},
}
REPORT = {
    "efficacy": {
        "success": {"value": 1.0, "n": 1, "before": 0.0},
        "accuracy": {"value": 1.0, "n": 1, "before": 0.0},
    },
    "paraphrase": {"value": 0.5, "n": 2, "before": 0.0},
}
APPLIED = {
    "id": "edt_1",
    "model": "m",
    "kind": "edit",
    "editor": "rome",
    "ord": 1,
    "status": "applied",
    "requests": [{}],
    "snapshot": "snp_2",
    "live": True,
    "noop": False,
    "report": REPORT,
    "error": None,
}


class Handler(BaseHTTPRequestHandler):
    """Answers from a table of paths."""

    answers: dict[str, Any]
    bodies: list[Any]

    def do_GET(self) -> None:
        found = self.answers.get(self.path.partition("?")[0])
        body = found if found is not None else {"code": "not-found", "detail": "It is not here."}
        self._send(200 if found is not None else 404, body)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.bodies.append(json.loads(self.rfile.read(length) or "null"))
        self.do_GET()

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        """Say nothing."""


def page(*data: Any) -> dict[str, Any]:
    return {"data": list(data), "has_more": False, "next": None}


@pytest.fixture
def answers() -> dict[str, Any]:
    return {
        "/models": page(MODEL),
        "/models/m/snapshots": page(SNAPSHOT),
        "/models/m/probe": {"data": [PROBE]},
        "/editors": {"data": [EDITOR]},
        "/edits": {**APPLIED, **page(APPLIED)},
        "/edits/edt_1": APPLIED,
        "/snapshots/snp_1/restore": {**APPLIED, "kind": "restore"},
    }


@pytest.fixture
def bodies() -> list[Any]:
    return []


@pytest.fixture
def run(answers: dict[str, Any], bodies: list[Any]) -> Iterator[Callable[..., Result]]:
    handler = type("Answering", (Handler,), {"answers": answers, "bodies": bodies})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"

    def invoke(*argv: str) -> Result:
        return CliRunner().invoke(app, [*argv, "--url", url])

    yield invoke
    server.shutdown()
    thread.join()
    server.server_close()


LOOKS = [
    (("models",), [MODEL]),
    (("editors",), [EDITOR]),
    (("edits",), [APPLIED]),
    (("snapshots",), [SNAPSHOT]),
    (("probe", "The capital of France is", "--target", "Lyon"), [PROBE]),
]


@pytest.mark.parametrize(("argv", "data"), LOOKS, ids=lambda value: value[0])
def test_json_is_what_the_server_said(
    run: Callable[..., Result], argv: tuple[str, ...], data: list[Any]
) -> None:
    result = run(*argv, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"data": data}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("models",), ("ready", "smollm2-135m", "sha256:abababababab")),
        (("editors",), ("rome", "2202.05262")),
        (("edits",), ("edt_1", "applied")),
        (("snapshots",), ("snp_1", "base", "2030-01-02")),
        (("probe", "The capital of France is"), ("Paris.\\n", "0.770", "Lyon 0.001")),
    ],
    ids=lambda value: value[0],
)
def test_a_table_can_be_read_in_a_pipe(
    run: Callable[..., Result], argv: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = run(*argv)
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in words), result.stdout
    assert "\x1b" not in result.stdout


def test_edit_orders_waits_and_shows_the_report(
    run: Callable[..., Result], bodies: list[Any]
) -> None:
    result = run(
        *("edit", "--editor", "rome", "--subject", "France", "--prompt", "The capital of {} is"),
        *("--target-new", "Lyon", "--paraphrase", "France's capital is"),
        *("--neighbor", "1+1=2 and the capital of Spain is=Madrid", "--hparam", "search.steps=9"),
    )
    assert result.exit_code == 0, result.output
    assert bodies == [
        {
            "model": "m",
            "editor": "rome",
            "hparams": {"search": {"steps": 9}},
            "requests": [
                {
                    "subject": "France",
                    "prompt": "The capital of {} is",
                    "target_new": "Lyon",
                    "paraphrases": ["France's capital is"],
                    "neighborhood": [
                        {"prompt": "1+1=2 and the capital of Spain is", "target": "Madrid"}
                    ],
                }
            ],
        }
    ]
    assert "edt_1 is applied, snapshot snp_2" in result.stdout
    assert "efficacy success" in result.stdout


def test_edit_reads_a_batch_from_a_file(
    run: Callable[..., Result], bodies: list[Any], tmp_path: Any
) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"requests": [{"subject": "a"}, {"subject": "b"}]}))
    result = run("edit", "--file", str(file), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["id"] == "edt_1"
    assert bodies[0]["requests"] == [{"subject": "a"}, {"subject": "b"}]


def test_edit_without_a_fact_says_what_is_missing(run: Callable[..., Result]) -> None:
    result = run("edit", "--subject", "France")
    assert result.exit_code == 2
    assert "--target-new" in result.output


def test_a_failed_edit_ends_with_one(run: Callable[..., Result], answers: dict[str, Any]) -> None:
    error = {"code": "singular-system", "detail": "The system is singular."}
    answers["/edits/edt_1"] = {**APPLIED, "status": "failed", "error": error, "report": None}
    result = run("edit", "--subject", "a", "--prompt", "{} is", "--target-new", "b")
    assert result.exit_code == 1
    assert "The system is singular." in result.output


def test_restore_is_followed_to_its_end(run: Callable[..., Result]) -> None:
    result = run("restore", "snp_1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["status"] == "applied"


def test_a_problem_is_one_line_and_one_object_with_json(run: Callable[..., Result]) -> None:
    plain = run("restore", "snp_404")
    assert plain.exit_code == 1
    assert plain.stderr == "errata: It is not here.\n"
    told = run("restore", "snp_404", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]["code"] == "not-found"


def test_two_models_have_to_be_told_apart(
    run: Callable[..., Result], answers: dict[str, Any]
) -> None:
    answers["/models"] = page(MODEL, {**MODEL, "id": "n"})
    result = run("snapshots")
    assert result.exit_code == 1
    assert "registered: m, n" in result.stderr
    assert run("snapshots", "--model", "m").exit_code == 0


def test_every_command_explains_itself() -> None:
    for command in ("up", "edit", "probe", "snapshots", "restore", "models", "editors", "demo"):
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.stdout
