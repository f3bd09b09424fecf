"""Dockerfiles and compose files, read as Docker reads them, so that tests can run what they say."""

import fnmatch
import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
GPU, CPU = ("docker-compose.yml",), ("docker-compose.yml", "docker-compose.cpu.yml")
IMAGES = ("api", "worker")

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<text>[^}]*))?\}|\$\$")


# ---- compose files -------------------------------------------------------------------------------


class Reset:
    """What stands under `!reset`: the key goes away."""


class _Loader(yaml.SafeLoader):
    """YAML with the tag of the compose files. Any other tag is an error."""


_Loader.add_constructor("!reset", lambda *_: Reset())


def compose(files: tuple[str, ...], environ: Mapping[str, str]) -> Json:
    """Merge files and fill in variables, as `docker compose -f A -f B config` does."""
    merged: Json = {}
    for file in files:
        merged = merge(merged, yaml.load((ROOT / file).read_text("utf-8"), _Loader))  # noqa: S506
    return filled({k: v for k, v in merged.items() if not k.startswith("x-")}, environ)


def merge(base: Any, over: Any) -> Any:
    """Lay `over` upon `base`: mappings by key; of lists, only those that Compose would replace."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        assert not isinstance(base, list), "Compose appends most lists; this reader does not"
        return over
    merged = {k: merge(base[k], v) if k in base else v for k, v in over.items()}
    return {k: v for k, v in {**base, **merged}.items() if not isinstance(v, Reset)}


def filled(value: Any, environ: Mapping[str, str]) -> Any:
    """Fill in `${NAME}`, `${NAME:-default}` and `${NAME:?message}`."""
    if isinstance(value, dict):
        return {key: filled(each, environ) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, environ) for each in value]
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        given = environ.get(match["name"], "")
        if match["how"] is None or given:
            return given
        if match["how"] == ":?":
            raise KeyError(match["name"], match["text"])
        return match["text"]

    return _VARIABLE.sub(found, value)


def variables(file: str) -> set[str]:
    """Name the variables that a compose file asks for."""
    text = (ROOT / file).read_text("utf-8")
    return {match["name"] for match in _VARIABLE.finditer(text) if match["name"]}


def example() -> tuple[dict[str, str], dict[str, str]]:
    """Read .env.example: what is set in it, and what stands there behind a `#`."""
    given: dict[str, str] = {}
    offered: dict[str, str] = {}
    for line in (ROOT / ".env.example").read_text("utf-8").splitlines():
        found = re.fullmatch(r"(#?)([A-Z_]+)=(.*)", line)
        if found:
            (offered if found[1] else given)[found[2]] = found[3]
    return given, offered


# ---- Dockerfiles ---------------------------------------------------------------------------------


class Image:
    """One Dockerfile: a stage that builds the wheel, and the stage that is run."""

    def __init__(self, part: str) -> None:
        self.file = ROOT / "docker" / f"{part}.Dockerfile"
        parser = DockerfileParser(fileobj=io.BytesIO(self.file.read_bytes()))
        steps = [(s["instruction"], s["value"]) for s in parser.structure]
        starts = [n for n, (instruction, _) in enumerate(steps) if instruction == "FROM"]
        self.bases = [steps[n][1].split()[0] for n in starts]
        self.wheel, self.run = steps[starts[0] : starts[1]], steps[starts[1] :]
        assert len(starts) == len(self.bases) == 2

    def commands(self, stage: list[tuple[str, str]]) -> list[str]:
        """The shell commands of a stage, without BuildKit's flags."""
        return [re.sub(r"^(--\w+=\S+\s+)+", "", value) for name, value in stage if name == "RUN"]

    def copied(self, stage: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Each source that a stage copies, and where it goes."""
        for name, value in stage:
            if name == "COPY":
                *sources, target = value.split()
                for source in sources:
                    yield source, source if target.endswith("/") else target

    def only(self, instruction: str) -> str:
        """The value of an instruction that the last stage has once."""
        (value,) = [value for name, value in self.run if name == instruction]
        return value

    @property
    def environ(self) -> dict[str, str]:
        """What the image sets."""
        pairs = [pair for name, value in self.run if name == "ENV" for pair in shlex.split(value)]
        return dict(pair.split("=", 1) for pair in pairs)

    @property
    def argv(self) -> list[str]:
        """What a container of it runs: ENTRYPOINT or CMD."""
        return json.loads(next(v for n, v in self.run if n in {"ENTRYPOINT", "CMD"}))


def left_in_context(path: str) -> bool:
    """Whether .dockerignore leaves this file for the build; the last matching line decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.lstrip("!")
        if not pattern or pattern.startswith("#"):
            continue
        parts = Path(path).parts
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        else:
            matches = fnmatch.fnmatch(parts[0], pattern)
        if matches:
            kept = line.startswith("!")
    return kept
