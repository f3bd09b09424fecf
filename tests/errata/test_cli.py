"""The commands, each against a fake server: what they print, and how they end."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from errata.cli import common, tables, watch
from errata.cli.main import app
from errata.results import Order
from errata.sse import Event
from tests.errata.answers import (
    APPLIED,
    AT,
    BASE,
    EDITED,
    EDT,
    FACT,
    QUEUED,
    REPORT,
    RUNNING,
    SNP,
    diff,
    editor,
    model,
    order,
    page,
    probe,
)
from tests.errata.serving import Posted

LOOKS = [
    (("models",), [model()], ("ready", "smollm2-135m", "sha256:abababababab")),
    (("editors",), [editor()], ("rome", "2202.05262", "closed form", "dropped")),
    (("edits",), [QUEUED, RUNNING, APPLIED], (f"{EDT}1", "applied")),
    (("snapshots",), [EDITED, BASE], (f"{SNP}1", "base", "2030-01-02", "before-launch")),
    (("probe", "The capital of France is"), [probe()], ("Paris.\\n", "0.770", "Lyon 0.001")),
]


@pytest.mark.parametrize(("argv", "data", "words"), LOOKS, ids=lambda value: value[0])
def test_what_is_looked_at_can_be_read_and_parsed(
    run: Callable[..., Result], argv: tuple[str, ...], data: list[Any], words: tuple[str, ...]
) -> None:
    told = run(*argv, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == {"data": data}
    shown = run(*argv)
    assert shown.exit_code == 0, shown.output
    assert all(word in shown.stdout for word in words), shown.stdout
    assert "\x1b" not in shown.stdout


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
    assert f"{EDT}1 is applied, snapshot {SNP}2" in result.stdout
    assert "efficacy success" in result.stdout


def test_edit_reads_a_batch_from_a_file(
    run: Callable[..., Result], bodies: list[Any], tmp_path: Any
) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"requests": [{"subject": "a"}, {"subject": "b"}]}))
    result = run("edit", "--file", str(file), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["id"] == f"{EDT}1"
    assert bodies[0]["requests"] == [{"subject": "a"}, {"subject": "b"}]


def test_edit_without_a_fact_says_what_is_missing(run: Callable[..., Result]) -> None:
    result = run("edit", "--subject", "France")
    assert result.exit_code == 2
    assert "--target-new" in result.output


def test_a_failed_edit_ends_with_one(run: Callable[..., Result], answers: dict[str, Any]) -> None:
    error = {"code": "singular-system", "detail": "The system is singular."}
    answers["/edits"] = order("failed", error=error)
    answers["/models"] = page(model())
    result = run("edit", "--subject", "a", "--prompt", "{} is", "--target-new", "b", "-m", "m")
    assert result.exit_code == 1
    assert "The system is singular." in result.output


def test_a_dry_run_says_that_nothing_was_written(
    run: Callable[..., Result], answers: dict[str, Any], bodies: list[Any]
) -> None:
    answers["/edits"] = order(dry_run=True, snapshot=None)
    fact = ("--subject", "a", "--prompt", "{} is", "--target-new", "b")
    result = run("edit", *fact, "--dry-run")
    assert result.exit_code == 0, result.output
    assert bodies[0]["dry_run"] is True
    assert "a dry run: nothing was written" in result.stdout
    assert "efficacy success" in result.stdout


def test_a_restore_can_be_tried_first(run: Callable[..., Result], bodies: list[Any]) -> None:
    planned = run("restore", "0", "--dry-run", "--cancel-queued")
    assert planned.exit_code == 0, planned.output
    assert bodies == [{"cancel_queued": True, "dry_run": True}]
    for words in (f"would change the head {SNP}2", "undone", "cancelled", "France is Lyon"):
        assert words in planned.stdout
    assert run("restore", "0", "--cancel-queued").exit_code == 0
    assert bodies[1] == {"cancel_queued": True}


def test_an_edit_is_taken_out_by_its_number(
    run: Callable[..., Result], bodies: list[Any], paths: list[str]
) -> None:
    result = run("retract", "1")
    assert result.exit_code == 0, result.output
    assert f"{EDT}1 is taken out: what is left is what there would be without it" in result.stdout
    assert "efficacy success" in result.stdout
    assert run("retract", f"{EDT}1", "--dry-run").exit_code == 0
    assert paths == [f"/edits/{EDT}1/retract"] * 2
    assert bodies == [None, {"dry_run": True}]


def test_a_retract_that_is_only_tried_says_so(
    run: Callable[..., Result], answers: dict[str, Any]
) -> None:
    answers[f"/edits/{EDT}1/retract"] |= {"dry_run": True}
    answers[f"/edits/{EDT}1/retract"]["report"]["retract"]["written_again_by"] = [f"{EDT}2"]
    told = run("retract", "1", "--dry-run").stdout
    assert f"{EDT}1 would be taken out" in told
    assert f"wrote its facts again, with {EDT}2" in told


def test_a_model_is_compacted_and_what_that_gained_is_told(
    run: Callable[..., Result], bodies: list[Any], paths: list[str]
) -> None:
    result = run("compact", "m", "--hparam", "layers=[3]")
    assert result.exit_code == 0, result.output
    assert "2 edits are one solution: entries 3 -> 1, bytes 900 -> 400" in result.stdout
    assert (paths, bodies) == (["/models/m/compact"], [{"hparams": {"layers": [3]}}])


def test_an_order_is_cancelled_by_its_number(run: Callable[..., Result], paths: list[str]) -> None:
    result = run("cancel", "2")
    assert result.exit_code == 0, result.output
    assert f"{EDT}2 is cancelled" in result.stdout
    assert paths == [f"/edits/{EDT}2/cancel"]


def test_an_order_that_got_away_is_told(
    run: Callable[..., Result], answers: dict[str, Any]
) -> None:
    answers[f"/edits/{EDT}2/cancel"] = order("applied", 2)
    result = run("cancel", f"{EDT}2", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"] == "applied"


def test_a_label_is_given_and_taken_away(run: Callable[..., Result], bodies: list[Any]) -> None:
    assert "best" in run("label", "0", "best").stdout
    assert run("label", "0", "--remove", "--json").exit_code == 0
    assert bodies == [{"label": "best"}, {"label": None}]
    assert run("label", "0").exit_code == 2
    assert run("label", "0", "best", "--remove").exit_code == 2


def test_a_diff_lists_the_edits_between(run: Callable[..., Result]) -> None:
    shown = run("diff", "0", "before-launch")
    assert shown.exit_code == 0, shown.output
    for words in ("other weights", "added", f"{EDT}1", "France is Lyon"):
        assert words in shown.stdout
    assert json.loads(run("diff", "0", "--json").stdout) == diff()


def test_a_fact_is_one_line_whichever_end_it_is_seen_from() -> None:
    relation = {
        "perspective": "relation",
        "subject": "France",
        "object": "Lyon",
        "relation_text": "capital",
        "add_prompt": "The relation between {} and Lyon is",
    }
    assert tables.fact(relation) == "The relation between France and Lyon is capital"
    assert tables.fact(FACT) == "The capital of France is Lyon"


def test_what_stands_before_prompts_is_shown(
    run: Callable[..., Result], answers: dict[str, Any]
) -> None:
    told = "New fact: [b]Lyon[/b] is the capital.\nSo it is.\n"
    answers["/edits"] = order(report={**REPORT, "editor": {"preface": told}})
    fact = ("--subject", "a", "--prompt", "{} is", "--target-new", "b")
    shown = run("edit", "--editor", "ike", *fact)
    assert shown.exit_code == 0, shown.output
    assert f"before every prompt:\n{told}" in shown.stdout
    answers["/models/m/snapshots"] = page({**EDITED, "preface": told}, BASE)
    assert "2 lines" in run("snapshots").stdout
    answers[f"/snapshots/{SNP}1/diff"] = {
        **diff(),
        "same_weights": True,
        "same_preface": False,
    }
    assert "the same weights, another text before every prompt" in run("diff", "0").stdout
    answers[f"/snapshots/{SNP}1/diff"] = {**diff(), "same_weights": True, "same_memory": False}
    assert "the same weights, other entries beside the weights" in run("diff", "0").stdout


def test_statistics_are_collected_and_shown(run: Callable[..., Result], bodies: list[Any]) -> None:
    result = run("stats", "--editor", "memit")
    assert result.exit_code == 0, result.output
    assert bodies == [{"editor": "memit"}]
    for words in ("collected", "2000", "corpus"):
        assert words in result.stdout


def test_a_queue_is_watched_until_it_is_empty(
    run: Callable[..., Result], answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK", 0.0)
    # At each look: what runs, what is queued.
    looks = iter([page(RUNNING), page(QUEUED), page(), page(order("running", 3)), page(), page()])
    answers["/edits"] = lambda: next(looks)
    answers |= {f"/edits/{EDT}{number}": order("applied", number) for number in (2, 3)}
    result = run("watch", "--until-idle")
    assert result.exit_code == 0, result.output
    assert [line.split()[0::4] for line in result.stdout.splitlines()] == [
        ["2", "running"],
        ["3", "queued"],
        ["2", "applied"],
        ["3", "running"],
        ["3", "applied"],
    ]


def test_a_problem_is_one_line_and_one_object_with_json(run: Callable[..., Result]) -> None:
    plain = run("restore", f"{SNP}9")
    assert plain.exit_code == 1
    assert plain.stderr == "errata: Why.\n"
    told = run("restore", f"{SNP}9", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]["code"] == "edit-not-found"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999", "{}/models", "{}/edits/edt_1", "nonsense", "{}?a=b"]
)
def test_an_address_that_is_none_has_the_code_of_no_server(
    server: tuple[str, Posted], url: str
) -> None:
    given = {"ERRATA_URL": url.format(server[0])}
    told = CliRunner().invoke(app, ["models", "--json"], env=given)
    assert told.exit_code == 3
    assert json.loads(told.stdout)["error"]["code"] == "bad-address"


def test_no_id_is_broken_in_a_pipe(run: Callable[..., Result], answers: dict[str, Any]) -> None:
    name, owner = "m" * 64, {"kind": "folder", "path": "/a" * 100}
    answers["/models"] = page(model(id=name, source=owner))
    answers["/edits"] = page(order(kind="statistics", editor="memit-history"))
    for line, words in (
        (run("models").stdout, (name, f"{SNP}1", owner["path"])),
        (run("edits").stdout, (f"{EDT}1", f"{SNP}2")),
        (run("snapshots", "-m", "m").stdout, ()),
    ):
        assert all(word in line for word in words), line


def test_events_of_dry_runs_say_so() -> None:
    data = {"edit": f"{EDT}1", "at": AT, "status": "applied", "dry_run": True, "error": None}
    told = watch._told(Event("edit.settled", data))
    assert told == "2030-01-02T03:04:05 edit.settled status=applied (dry run)"
    assert "dry" not in watch._told(Event("edit.settled", {**data, "dry_run": False}))


def test_no_server_has_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "PATIENCE", 0.0)
    url = "http://127.0.0.1:1"
    for argv in (["models"], ["probe", "Hello"], ["restore", f"{SNP}1"]):
        result = CliRunner().invoke(app, [*argv, "--url", url], env={"XDG_DATA_HOME": "/nowhere"})
        assert result.exit_code == 3
        assert f"no server answers at {url}" in result.stderr


def test_an_order_that_is_not_settled_in_time_has_one_too(
    run: Callable[..., Result], answers: dict[str, Any]
) -> None:
    answers["/edits"] = answers[f"/edits/{EDT}3"] = QUEUED
    fact = ("--subject", "a", "--prompt", "{} is", "--target-new", "b", "-m", "m")
    result = run("edit", *fact, "--timeout", "0")
    assert result.exit_code == 4
    assert f"`errata cancel {EDT}3`" in result.stderr
    assert run("edit", *fact, "--no-wait").exit_code == 0


def test_ctrl_c_ends_the_command_and_not_the_order(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("errata.client.Client.wait", interrupted)
    monkeypatch.setattr("errata.client.Client.edit", lambda *_, **__: Order.of(QUEUED))
    fact = ("--subject", "a", "--prompt", "{} is", "--target-new", "b")
    result = run("edit", *fact)
    assert result.exit_code == 130
    assert f"`errata cancel {EDT}3`" in result.stderr
    told = run("edit", *fact, "--json")
    assert (told.exit_code, told.stdout) == (130, "")
    error = json.loads(told.stderr)["error"]
    assert (error["edit"], error["cancel"]) == (f"{EDT}3", f"errata cancel {EDT}3")

    monkeypatch.setattr("errata.client.Client.cancel", interrupted)
    assert f"`errata watch {EDT}2`" in run("cancel", "2").stderr
    monkeypatch.setattr("errata.client.Client.edit", interrupted)  # before it has an id
    assert "goes on without us" in run("edit", *fact).stderr


def test_every_command_explains_itself() -> None:
    names = [
        each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands
    ]
    assert len(names) == 23
    for command in names:
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.stdout
