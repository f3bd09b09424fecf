"""The compose files are valid, ask for nothing unnamed, and start what is there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from psycopg.conninfo import conninfo_to_dict
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.settings import Settings
from errata.stack.postgres import Postgres
from errata.stack.wheels import binaries
from tests.conftest import wait_until
from tests.house.recipes import CPU, GPU, ROOT, Image, Json, compose, example, variables

OURS = ("migrate", "api", "worker")
ENVIRON = {"ERRATA_DATABASE_PASSWORD": "pa55"}
# Read by the image or by pip, not by app.settings.
FOREIGN = {"HF_HOME"}


@pytest.fixture(params=[GPU, CPU], ids=["gpu", "cpu"])
def host(request: pytest.FixtureRequest) -> Json:
    return compose(request.param, ENVIRON)


def services(host: Json) -> Iterator[tuple[str, Json]]:
    yield from host["services"].items()


def test_it_is_valid_by_the_schema_of_the_compose_specification(host: Json, tmp_path: Path) -> None:
    merged = tmp_path / "docker-compose.yml"
    merged.write_text(yaml.safe_dump(host))
    check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(merged)]
    done = subprocess.run([sys.executable, *check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_is_one_that_is_read(host: Json) -> None:
    known = {f"ERRATA_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert set(host["services"][name]["environment"]) - FOREIGN <= known


def test_every_variable_it_asks_for_is_in_the_example_and_no_other() -> None:
    given, offered = example()
    asked = variables("docker-compose.yml") | variables("docker-compose.cpu.yml")
    assert set(given) | set(offered) == asked | {"HF_TOKEN"}  # that one goes in by env_file


def test_the_example_makes_settings_and_says_no_secret() -> None:
    given, offered = example()
    assert [name for name, value in given.items() if not value] == ["ERRATA_DATABASE_PASSWORD"]
    assert not offered["HF_TOKEN"]
    both = {k.removeprefix("ERRATA_").lower(): v for k, v in {**given, **offered}.items()}
    Settings.model_validate({k: v for k, v in both.items() if k in Settings.model_fields})


def test_without_a_password_it_does_not_start() -> None:
    with pytest.raises(KeyError, match=r"\.env\.example"):
        compose(GPU, {})


def test_a_gpu_is_reserved_by_number_and_not_where_there_is_none() -> None:
    gpu, cpu = compose(GPU, {**ENVIRON, "ERRATA_GPU": "3"}), compose(CPU, ENVIRON)
    (device,) = gpu["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert device["device_ids"] == ["3"]
    assert gpu["services"]["worker"]["environment"]["ERRATA_DEVICE"] == "cuda"
    assert "deploy" not in cpu["services"]["worker"]
    assert cpu["services"]["worker"]["environment"]["ERRATA_DEVICE"] == "cpu"
    # One tag for both would serve whichever was built last.
    assert gpu["services"]["worker"]["image"] != cpu["services"]["worker"]["image"]


def test_every_service_has_an_init_a_bounded_log_and_a_check(host: Json) -> None:
    for name, service in services(host):
        assert service["init"] is True, name
        assert service["logging"]["options"]["max-size"], name
        assert ("healthcheck" in service) == (name != "migrate"), name


def test_services_wait_for_what_they_need_and_only_for_what_is_checked(host: Json) -> None:
    waits = {
        (name, needed, how["condition"])
        for name, service in services(host)
        for needed, how in service.get("depends_on", {}).items()
    }
    assert {
        ("migrate", "postgres", "service_healthy"),
        ("api", "migrate", "service_completed_successfully"),
        ("api", "valkey", "service_healthy"),
        ("worker", "api", "service_healthy"),
    } <= waits
    for _, needed, condition in waits:
        assert condition != "service_healthy" or "healthcheck" in host["services"][needed]


def test_images_are_pinned_and_come_from_no_named_host(host: Json) -> None:
    images = {s["image"] for _, s in services(host) if "build" not in s}
    images |= {base for part in ("api", "worker") for base in Image(part).bases}
    for image in images:
        name, _, tag = image.partition(":")
        assert tag[:1] in "v0123456789" and tag.count(".") >= 1, image  # noqa: PT018
        assert "." not in name.split("/")[0], image
    assert all(":" not in s["image"] for _, s in services(host) if "build" in s)


def test_the_servers_are_those_that_the_tests_run_with(host: Json) -> None:
    programs = binaries(None)
    for name, program in (("postgres", programs.postgres), ("valkey", programs.valkey)):
        version = host["services"][name]["image"].partition(":")[2]
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert version in said.stdout


def test_volumes_are_declared_and_files_exist(host: Json) -> None:
    for name, service in services(host):
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            assert target.startswith("/"), name
            assert (ROOT / source).exists() if source[0] == "." else source in host["volumes"], name
    used = {v.split(":")[0] for _, s in services(host) for v in s.get("volumes", [])}
    assert set(host["volumes"]) <= used


def test_api_and_worker_share_data_that_their_images_own(host: Json) -> None:
    for name in ("api", "worker"):
        assert "data:/data" in host["services"][name]["volumes"]
        assert host["services"][name]["environment"]["ERRATA_DATA_DIR"] == "/data"
    made = [[c for c in Image(p).commands(Image(p).run) if "useradd" in c] for p in OURS[1:]]
    assert made[0] == made[1]
    assert "install -d -o errata -g errata /data" in made[0][0]
    uid = made[0][0].split("--uid ")[1].split()[0]
    assert {Image(part).only("USER") for part in OURS[1:]} == {uid}


def test_no_port_is_open_beyond_the_host_unless_it_is_said(host: Json) -> None:
    for name, service in services(host):
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_the_server_takes_valkeys_arguments_and_keeps_what_it_was_told(
    tmp_path: Path,
) -> None:
    valkey = compose(GPU, ENVIRON)["services"]["valkey"]
    program, *flags = valkey["command"]
    assert program == binaries(None).valkey.name
    socket = tmp_path / "s"
    argv = [binaries(None).valkey, *flags, "--port", "0", "--unixsocket", str(socket)]

    def run() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL)
        wait_until(lambda: socket.exists() and answers(client), str(tmp_path))
        return process

    retry = Retry(NoBackoff(), 0)
    with redis.Redis(unix_socket_path=str(socket), retry=retry) as client:
        process = run()
        client.set("kept", 1)
        _, client_program, *check = valkey["healthcheck"]["test"]
        assert client_program == "valkey-cli"
        assert client.execute_command(*check)
        process.terminate()
        process.wait()
        assert not answers(client)
        process = run()
        assert client.get("kept") == b"1"
        process.terminate()
        process.wait()


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_the_check_of_postgres_tells_a_server_from_none(
    postgres_server: Postgres, tmp_path: Path
) -> None:
    postgres = compose(GPU, ENVIRON)["services"]["postgres"]
    kind, program, *flags = postgres["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "pg_isready")
    folder = str(conninfo_to_dict(postgres_server.conninfo())["host"])

    def check(where: str) -> int:
        asked = [where if flag == "127.0.0.1" else flag for flag in flags]
        found = binaries(None).postgres.with_name(program)
        return subprocess.run([found, *asked], check=False, stdout=subprocess.DEVNULL).returncode

    assert check(folder) == 0
    assert check(str(tmp_path)) != 0


def test_prometheus_asks_the_ports_that_are_served(host: Json) -> None:
    asked = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text("utf-8"))
    api, workers = asked["scrape_configs"]
    port = json.dumps(Image("api").argv)
    assert api["static_configs"][0]["targets"] == ["api:8642"]
    assert '"--port", "8642"' in port
    (found,) = workers["dns_sd_configs"]
    worker = host["services"]["worker"]
    assert found["names"] == worker["networks"]["default"]["aliases"]
    assert str(found["port"]) == worker["environment"]["ERRATA_WORKER_METRICS_PORT"]
    assert worker["environment"]["ERRATA_WORKER_METRICS_HOST"] == "0.0.0.0"  # noqa: S104
