"""Which files a request may name: those of the folders that the operator named, and no pickle."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.app.test_wrong_input import refused

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that the operator named, with a model in it, and another one beside it."""
    for folder in (tmp_path / "models" / "good", tmp_path / "secret" / "model"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"")
    (tmp_path / "secret" / "model.gguf").write_bytes(b"GGUF")
    return tmp_path / "models"


@pytest.fixture
def client(settings: Settings, root: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings.model_copy(update={"model_roots": (root,)}))) as client:
        yield client


def register(client: TestClient, source: Any) -> Any:
    return client.post(
        "/models", json={"source": str(source) if isinstance(source, Path) else source}
    )


def test_a_model_of_an_allowed_folder(client: TestClient, root: Path) -> None:
    answer = register(client, root / "good")
    assert (answer.status_code, answer.json()["source"]["path"]) == (201, str(root / "good"))
    (root / "again").symlink_to(root / "good")  # a link that stays inside is as good as its end
    assert register(client, root / "again").json()["source"]["path"] == str(root / "good")


@pytest.mark.parametrize(
    "path",
    [
        "secret/model",
        "secret/model.gguf",
        "models/../secret/model",
        "models/good/../../secret/model",
        "models/./../secret/model",
        "models-and-more",  # begins like the folder, and is another
    ],
)
def test_nothing_outside_of_it_whatever_the_path_looks_like(
    client: TestClient, root: Path, path: str
) -> None:
    outside = root.parent / "models-and-more"
    outside.mkdir()
    for source in (f"{root.parent}/{path}", {"kind": "folder", "path": f"{root.parent}/{path}"}):
        refused(register(client, source), 422, "source-not-allowed")


def test_no_link_leads_out(client: TestClient, root: Path) -> None:
    secret = root.parent / "secret"
    (root / "folder").symlink_to(secret / "model")
    (root / "file.gguf").symlink_to(secret / "model.gguf")
    (root / "up").symlink_to("..")
    (root / "round").symlink_to("round")
    for source in (root / "folder", root / "file.gguf", root / "up" / "secret" / "model"):
        refused(register(client, source), 422, "source-not-allowed")
    refused(register(client, root / "round"), 422, "bad-source")


@pytest.mark.parametrize("path", ["/proc/self/environ", "/dev/zero", "~/model", "./good", "../x"])
def test_no_file_of_the_host(client: TestClient, path: str) -> None:
    for source in (path, {"kind": "gguf", "path": path}, {"kind": "folder", "path": path}):
        refused(register(client, source), 422, "source-not-allowed")


def test_without_a_folder_of_the_operator_no_path_at_all(settings: Settings, root: Path) -> None:
    with TestClient(create_app(settings)) as client:
        refused(register(client, root / "good"), 422, "source-not-allowed")
        refused(register(client, "/"), 422, "source-not-allowed")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "weights.pkl"])
def test_weights_that_are_pickled_are_refused_at_the_door(
    client: TestClient, root: Path, name: str
) -> None:
    """Loading a pickle runs whatever its author wrote into it."""
    folder = root / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    fuse = root / "it-was-loaded"
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(fuse) + b"'\ntR.")
    said = refused(register(client, folder), 422, "bad-source")
    assert "safetensors" in said["detail"]
    assert not fuse.exists()


def test_no_code_of_ours_can_load_a_pickle() -> None:
    """No module that does, no call that might, no flag that allows it."""
    modules = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    flags = {"allow_pickle", "trust_remote_code"}
    found: list[str] = []
    for room in ("app", "workers", "editing", "errata", "migrations"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                match node:
                    case ast.Import(names=names) if modules & {n.name for n in names}:
                        found.append(f"{file}: {ast.unparse(node)}")
                    case ast.ImportFrom(module=module) if module in modules:
                        found.append(f"{file}: {ast.unparse(node)}")
                    case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                        found.append(f"{file}: torch.load")
                    case ast.keyword(arg=arg, value=ast.Constant(value=True)) if arg in flags:
                        found.append(f"{file}: {arg}")
                    case _:
                        pass
    assert found == []
