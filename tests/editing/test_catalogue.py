"""The table of methods is true, and the porch is light."""

import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from inspect import isgeneratorfunction, signature

import pytest

from editing.catalogue import METHODS, method
from editing.errors import UnknownEditor
from editing.tuned import TUNED

PORCH = ("request", "hparams", "knobs", "catalogue", "source", "errors", "step", "tuned")


def test_a_method_stands_under_its_name() -> None:
    assert all(name == one.name for name, one in METHODS.items())
    assert all(method(name) is one for name, one in METHODS.items())


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownEditor, match=", ".join(sorted(METHODS))):
        method("serac")


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_leads_to_a_generator_with_the_one_signature(name: str) -> None:
    module, _, function = METHODS[name].entry.partition(":")
    editor = getattr(import_module(module), function)
    assert isgeneratorfunction(editor)
    assert list(signature(editor).parameters)[:3] == ["view", "requests", "hparams"]
    assert len(signature(editor).parameters) == 4


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_where_it_comes_from(name: str) -> None:
    one = METHODS[name]
    # a number at arXiv, or an id in the ACL anthology
    assert re.fullmatch(r"\d{4}\.(\d{5}|[a-z]+-[a-z]+\.\d+)", one.paper)
    module = import_module(one.entry.partition(":")[0])
    assert one.paper in (module.__doc__ or "")
    assert one.title
    assert one.summary.endswith(".")


@pytest.mark.parametrize("name", METHODS)
def test_its_hparams_are_a_frozen_class_with_published_rows(name: str) -> None:
    kind = METHODS[name].hparams
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    stands = METHODS[name].writes or METHODS[name].family == "side memory"
    assert ("layers" in {knob.name for knob in fields(kind)}) == bool(stands)
    assert name in TUNED


def test_the_porch_is_imported_without_torch() -> None:
    imports = "; ".join(f"import editing.{name}" for name in PORCH)
    heavy = "{'torch', 'transformers', 'numpy', 'safetensors', 'pydantic'}"
    code = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
