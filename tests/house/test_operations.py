"""docs/operations.md and the dashboard name what is there, all of it, and as it is."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import conninfo_to_dict

from app.settings import Settings
from app.store.db import Database
from app.store.migrate import at_head
from app.store.tables import JournalRow, Snapshot
from errata.stack.postgres import Postgres
from errata.stack.wheels import binaries
from tests.house.recipes import GPU, ROOT, Json, compose
from tests.house.running import Host
from workers.metrics import WorkerMetrics

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
BOARD: Json = json.loads((ROOT / "docker" / "grafana" / "dashboards" / "errata.json").read_text())
GRAFANA = ROOT / "docker" / "grafana" / "provisioning"
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them
ENVIRON = {"ERRATA_DATABASE_PASSWORD": "pa55"}


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this name."""
    rows = PAGE.partition(f"\n| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


# ---- settings ------------------------------------------------------------------------------------


def test_the_table_of_settings_is_that_of_the_code() -> None:
    def said(default: Any) -> str:
        return str(default).lower() if isinstance(default, bool) else str(default)

    empty = (None, "", ())
    known = {
        f"ERRATA_{name.upper()}": "" if field.default in empty else said(field.default)
        for name, field in Settings.model_fields.items()
    }
    told = {name: default for name, default, _ in table("variable")}
    assert told == known, "the table of settings in docs/operations.md needs a row"


# ---- metrics -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(host: Host) -> dict[str, set[str]]:
    """Every sample that is served, and the names of its labels."""
    # This one has samples only where there is a GPU.
    found = {"errata_gpu_memory_bytes": {"model", "state"}}
    for family in families(host):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def families(host: Host) -> Iterator[Any]:
    for text in host.told.values():
        yield from text_string_to_metric_families(text)


def test_every_metric_is_in_the_table_and_no_other(host: Host) -> None:
    names = {f.name for f in families(host)}
    names |= {f.name for f in WorkerMetrics("any", device="cuda").registry.collect()}
    told = {name for name, _, _ in table("metric")}
    assert told - {"process_*"} == {name for name in names if not name.startswith("process_")}
    for name, where, _ in table("metric"):
        for service in ("api", "worker") if where == "both" else (where,):
            assert f"# TYPE {name.rstrip('*')}" in host.told[service] or "gpu" in name, name


def test_the_page_speaks_of_no_metric_that_is_not_there(exported: dict[str, set[str]]) -> None:
    known = set(exported) | {name for name, _, _ in table("metric")}
    spoken = set(re.findall(r"`(errata_[a-z_]+)`", PAGE))
    assert spoken <= known


# ---- the dashboard -------------------------------------------------------------------------------


def panels() -> list[Json]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [q.replace("$__rate_interval", "5m").replace("$model", ".*") for q in asked]


def selected(query: str) -> tuple[list[tuple[str, set[str]]], set[str]]:
    """The series that a query asks for, with the labels it compares, and those it groups by."""
    series: list[tuple[str, set[str]]] = []
    groups: set[str] = set()

    def look(node: Any) -> Any:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name, query
            series.append((node.name, {m.name for m in node.matchers.matchers}))
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            groups.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(query), look)
    return series, groups


@pytest.mark.parametrize("query", queries())
def test_every_query_asks_for_what_is_served(query: str, exported: dict[str, set[str]]) -> None:
    series, groups = selected(query)
    assert series
    for name, compared in series:
        assert name in exported
        assert compared | groups <= exported[name] | TARGET_LABELS


def test_every_metric_of_ours_is_on_the_dashboard(exported: dict[str, set[str]]) -> None:
    shown = {name for query in queries() for name, _ in selected(query)[0]}
    parts = r"_(total|bucket|sum|count)$"
    missing = {re.sub(parts, "", name) for name in exported if name.startswith("errata_")}
    missing -= {re.sub(parts, "", name) for name in shown}
    assert missing <= {"errata_head_seq"}  # errata_snapshots says the same


def test_the_dashboard_has_what_grafana_needs() -> None:
    assert {"uid", "title", "schemaVersion", "time", "refresh", "templating"} <= BOARD.keys()
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
    (variable,) = BOARD["templating"]["list"]
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert asked
    assert asked.groups() == ("errata_snapshots", variable["name"])


def test_the_dashboard_is_provisioned_with_its_source() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    uids = {panel["datasource"]["uid"] for panel in panels()}
    uids |= {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert uids == {source["uid"]}
    services = compose(GPU, ENVIRON)["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "9090" in services["prometheus"]["ports"][0].split(":")[-1]
    (provider,) = yaml.safe_load((GRAFANA / "dashboards" / "errata.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./docker/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./docker/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/errata.json"


# ---- what the page says to do --------------------------------------------------------------------


def test_a_second_worker_is_added_as_the_page_says() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    (block,) = blocks("yaml")
    added = text.replace("\nvolumes:\n", f"\n{block}\nvolumes:\n")
    services = yaml.safe_load(added)["services"]
    first, second = services["worker"], services["worker-second"]
    differing = {key for key in first if first[key] != second[key]}
    assert differing == {"command", "deploy"}
    assert second["deploy"]["resources"].keys() == first["deploy"]["resources"].keys()


def test_every_compose_command_names_services_and_files_that_are_there() -> None:
    services = compose(GPU, ENVIRON)["services"]
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    asked = [shlex.split(line, comments=True) for line in lines]
    stops = [words[3:] for words in asked if words[:3] == ["docker", "compose", "stop"]]
    assert stops
    assert all(set(names) <= services.keys() for names in stops)
    files = [words[n + 1] for words in asked for n, word in enumerate(words) if word == "-f"]
    assert files
    assert all((ROOT / file).exists() for file in files)


def commands(start: str) -> list[str]:
    """The part of a line of the page that runs inside a container."""
    (line,) = [x for block in blocks("sh") for x in block.splitlines() if f" {start} " in x]
    return shlex.split(line[line.index(f" {start} ") :])


def test_what_was_backed_up_comes_back(
    host: Host, postgres_server: Postgres, empty_postgres_url: str, tmp_path: Path
) -> None:
    """The page's own commands, on another database and folder."""
    url = host.environ("api")["ERRATA_DATABASE_URL"]
    dumped = tmp_path / "errata.dump"
    pg(commands("pg_dump"), postgres_server, url, dumped)
    pg(commands("pg_restore"), postgres_server, empty_postgres_url, dumped)
    assert at_head(empty_postgres_url)
    assert contents(empty_postgres_url) == contents(url)
    # Once more upon itself, since a restore may find something there.
    pg(commands("pg_restore"), postgres_server, empty_postgres_url, dumped)
    assert contents(empty_postgres_url) == contents(url)

    data, other = tmp_path / "data", tmp_path / "other"
    for name in ("blobs/ab/cd", "cache/x", "huggingface/y"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(os.urandom(9))
    other.mkdir()
    archive = tmp_path / "data.tar"
    run([*at(commands("tar -C /data --exclude=./cache"), data)], stdout=archive)
    run([*at(commands("tar -C /data -xf"), other)], stdin=archive)
    kept = {str(file.relative_to(other)) for file in other.rglob("*") if file.is_file()}
    assert kept == {"blobs/ab/cd"}
    assert (other / "blobs/ab/cd").read_bytes() == (data / "blobs/ab/cd").read_bytes()


def contents(url: str) -> dict[str, int]:
    database = Database(url)
    try:
        with database.tx() as tx:
            return {t.__tablename__: tx.session.query(t).count() for t in (JournalRow, Snapshot)}
    finally:
        database.close()


def pg(argv: list[str], server: Postgres, url: str, file: Path) -> None:
    """Run a client of Postgres as the page says, on the server and the database of a test."""
    where = conninfo_to_dict(server.conninfo())
    name = url.split("?", maxsplit=1)[0].rpartition("/")[2]
    program, *flags = argv[: argv.index(">" if ">" in argv else "<")]
    flags = [{"errata": name}.get(flag, flag) for flag in flags]
    flags[flags.index("-U") + 1] = str(where["user"])
    found = [str(binaries(None).postgres.with_name(program)), *flags, "-h", str(where["host"])]
    run(found, **{"stdout" if ">" in argv else "stdin": file})


def at(argv: list[str], folder: Path) -> list[str]:
    words = argv[: argv.index(">" if ">" in argv else "<")]
    return [str(folder) if word == "/data" else word for word in words]


def run(argv: list[str], *, stdin: Path | None = None, stdout: Path | None = None) -> None:
    with (
        (stdin or Path(os.devnull)).open("rb") as source,
        (stdout or Path(os.devnull)).open("wb") as target,
    ):
        done = subprocess.run(
            argv, stdin=source, stdout=target, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
