"""The written form of a model's source."""

import pytest

from editing.errors import BadSource
from editing.source import NAMED, parse_source, source_name

FORMS = [
    ("smollm2-135m", {"kind": "named", "name": "smollm2-135m"}, "smollm2-135m"),
    (" smollm2-135m\n", {"kind": "named", "name": "smollm2-135m"}, "smollm2-135m"),
    ("hub:Org/Name", {"kind": "hub", "id": "Org/Name"}, "name"),
    ("org/name", {"kind": "hub", "id": "org/name"}, "name"),
    ("org/na.me-1_b", {"kind": "hub", "id": "org/na.me-1_b"}, "na.me-1_b"),
    ("hub:org/name@main", {"kind": "hub", "id": "org/name", "revision": "main"}, "name"),
    ("org/name@refs/pr/3", {"kind": "hub", "id": "org/name", "revision": "refs/pr/3"}, "name"),
    ("/models/GPT2", {"kind": "folder", "path": "/models/GPT2"}, "gpt2"),
    ("./gpt2", {"kind": "folder", "path": "./gpt2"}, "gpt2"),
    ("../gpt2", {"kind": "folder", "path": "../gpt2"}, "gpt2"),
    ("~/gpt2", {"kind": "folder", "path": "~/gpt2"}, "gpt2"),
    ("/models/a.gguf", {"kind": "gguf", "path": "/models/a.gguf"}, "a"),
    ("./A-Q4.gguf", {"kind": "gguf", "path": "./A-Q4.gguf"}, "a-q4"),
]


@pytest.mark.parametrize(("text", "source", "name"), FORMS, ids=[text for text, _, _ in FORMS])
def test_each_form_is_told_apart_and_named(text: str, source: dict[str, str], name: str) -> None:
    assert parse_source(text) == source
    assert source_name(source) == name


@pytest.mark.parametrize(
    "text",
    ["", " ", "gpt2", "a b/c", "org/name/more", "hub:", "hub:gpt2", "org/name@", "org/name@a b",
     "https://example.org/a", "org/\nname", "smollm2"],
)  # fmt: skip
def test_anything_else_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(
        BadSource, match=r"smollm2-135m, .*hub:org/name@revision, a folder"
    ) as raised:
        parse_source(text)
    assert raised.value.code == "bad-source"


@pytest.mark.parametrize("name", NAMED)
def test_a_named_source_can_be_found_installed_and_checked(name: str) -> None:
    wheels = NAMED[name]
    for package, file in wheels.parts:
        assert package.isidentifier()
        assert not file.startswith("/")
        assert f"{package.replace('_', '-')}==" in wheels.install
    assert len(wheels.sha256) == 64
    assert wheels.dtype in {"float32", "bfloat16", "float16"}
