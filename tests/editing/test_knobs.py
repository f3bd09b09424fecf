"""From what a caller sends to frozen hparams: every knob checked, every default said once."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, fields
from typing import Any, cast

import pytest

from editing.catalogue import METHODS
from editing.errors import InvalidHparam, NonFiniteValue, UnknownEditor, UnknownHparam
from editing.hparams import MemitHparams, RomeHparams, Search
from editing.knobs import check, resolve, schema
from editing.tuned import ModelFacts, published

from .facts import searches

GPT2_XL = ModelFacts("gpt2", 48, 1600, 6400)
LLAMA_2 = ModelFacts("llama", 32, 4096, 11008)
SMOLLM2 = ModelFacts("llama", 30, 576, 1536)


@pytest.fixture(params=METHODS)
def editor(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[name for name in METHODS if searches(name)])
def searched(request: pytest.FixtureRequest) -> str:
    return request.param


class TestRefusals:
    def test_an_unknown_editor_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UnknownEditor, match=r"no editor 'serac'.*memit.*rome") as raised:
            check("serac", {})
        assert raised.value.code == "unknown-editor"

    @pytest.mark.parametrize(
        ("name", "overrides"),
        [
            ("lr", {"lr": 0.1}),
            ("search.speed", {"search": {"speed": 1}}),
            ("search.lr.x", {"search": {"lr": {"x": 1}}}),
            ("search", {"search": 5}),
            ("search", {"search": None}),
            ("", {"": 1}),
        ],
    )
    def test_an_unknown_knob_is_refused_with_the_known_ones(
        self, searched: str, name: str, overrides: Mapping[str, object]
    ) -> None:
        with pytest.raises(UnknownHparam, match=r"It has: .*search\.lr") as raised:
            check(searched, overrides)
        assert raised.value.code == "unknown-hparam"
        assert raised.value.fields["hparam"] == name

    @pytest.mark.parametrize(
        ("name", "value", "must"),
        [
            ("search.steps", 0, "a whole number from 1 to 1000"),
            ("search.steps", 1001, "a whole number"),
            ("search.steps", 2.0, "a whole number"),
            ("search.steps", True, "a whole number"),
            ("search.steps", "25", "a whole number"),
            ("search.steps", None, "a whole number"),
            ("search.lr", 0, "a number from 1e-06 to 100"),
            ("search.lr", -1.0, "a number"),
            ("search.lr", [0.1], "a number"),
            ("search.min_probability", 1.5, "from 0 to 1"),
            ("search.lr", 10**400, "a number"),
            ("contexts.prefixes", -1, "from 0 to 64"),
            ("statistics.text", "wikipedia", "one of ['self']"),
            ("statistics.text", ["self"], "one of"),
            ("layers", 3, "a list"),
            ("layers", [], "a list"),
            ("layers", "3", "a list"),
            ("layers", [-1], "a list"),
            ("layers", [1.0], "a list"),
            ("layers", [True], "a list"),
            ("layers", [math.nan], "a list"),
        ],
    )
    def test_a_value_out_of_its_range_is_refused_with_the_range(
        self, searched: str, name: str, value: object, must: str
    ) -> None:
        for overrides in ({name: value}, _nested(name, value)):
            with pytest.raises(InvalidHparam) as raised:
                check(searched, overrides)
            assert raised.value.code == "invalid-hparam"
            assert raised.value.fields["hparam"] == name
            assert must in str(raised.value)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_number_that_is_not_finite_is_refused(self, searched: str, value: float) -> None:
        with pytest.raises(NonFiniteValue, match=r"hparams\.search\.lr is not a finite") as raised:
            check(searched, {"search": {"lr": value}})
        assert raised.value.code == "non-finite-value"

    def test_a_method_of_one_layer_takes_one(self) -> None:
        with pytest.raises(InvalidHparam, match="a list of 1 layer"):
            check("rome", {"layers": [1, 2]})
        check("memit", {"layers": [1, 2]})

    @pytest.mark.parametrize("layers", [[2, 1], [1, 1]])
    def test_a_band_is_given_lowest_first_without_repeats(self, layers: list[int]) -> None:
        with pytest.raises(InvalidHparam, match="lowest first"):
            check("memit", {"layers": layers})

    @pytest.mark.parametrize("layer", [29, 30, 1000])
    def test_a_layer_needs_one_above_it_in_the_model(self, searched: str, layer: int) -> None:
        with pytest.raises(InvalidHparam, match=r"between 0 and 28 .* 30 layers"):
            resolve(searched, {"layers": [layer]}, SMOLLM2)
        assert resolve(searched, {"layers": [28]}, SMOLLM2).layers == (28,)


class TestResolving:
    def test_what_the_caller_says_comes_last(self, searched: str) -> None:
        hparams = resolve(searched, {"search": {"lr": 0.2}, "contexts.prefixes": 3}, GPT2_XL)
        assert hparams.search.lr == 0.2
        # The published row stays where nothing else was said.
        row = published(searched, GPT2_XL)
        assert hparams.search.steps == row.get("search.steps", Search().steps)
        assert hparams.contexts.prefixes == 3
        assert hparams.contexts.prefix_tokens == 10

    def test_null_asks_for_the_rule_of_scale(self) -> None:
        hparams = resolve("memit", {"second_moment_weight": None}, LLAMA_2)
        assert isinstance(hparams, MemitHparams)
        assert hparams.second_moment_weight is None

    def test_hparams_are_frozen_and_compare_by_value(self, editor: str) -> None:
        hparams = resolve(editor, {}, SMOLLM2)
        with pytest.raises(FrozenInstanceError):
            setattr(hparams, fields(hparams)[0].name, None)
        assert hparams == resolve(editor, {}, SMOLLM2)
        assert hash(hparams) == hash(resolve(editor, {}, SMOLLM2))

    def test_defaults_are_said_once(self) -> None:
        assert resolve("memit", {}, SMOLLM2).search == Search()
        assert isinstance(resolve("rome", {}, SMOLLM2), RomeHparams)


class TestSchema:
    def test_it_is_json_with_nothing_infinite_in_it(self, editor: str) -> None:
        assert json.loads(json.dumps(schema(editor), allow_nan=False)) == schema(editor)

    def test_it_says_what_every_knob_means_and_takes(self, editor: str) -> None:
        for name, leaf in _leaves(schema(editor)):
            assert leaf["description"], name
            assert "enum" in leaf or leaf["type"] in (
                "integer",
                "number",
                "array",
                "boolean",
                ["number", "null"],
                ["integer", "null"],
                ["array", "null"],
                ["string", "null"],
            )
            assert ("default" in leaf) == (name != "layers")

    def test_its_defaults_and_limits_are_those_that_are_checked(self, editor: str) -> None:
        for name, leaf in _leaves(schema(editor)):
            if name == "layers":
                continue
            check(editor, {name: leaf["default"]})
            for limit, beyond in (("minimum", -1), ("maximum", 1)):
                if limit in leaf:
                    check(editor, {name: _number(leaf, leaf[limit])})
                    with pytest.raises(InvalidHparam):
                        check(editor, {name: _number(leaf, leaf[limit]) + beyond})

    def test_what_it_forbids_is_refused_and_what_is_refused_it_forbids(self, editor: str) -> None:
        found = schema(editor)
        assert found["additionalProperties"] is False
        if "layers" not in cast("dict[str, object]", found["properties"]):
            return
        layers = _at(found, "layers")
        assert layers["items"] == {"type": "integer", "minimum": 0}
        assert layers["minItems"] == 1
        one = METHODS[editor].hparams.__dataclass_fields__["layers"].metadata.get("length")
        assert layers.get("maxItems") == one


def _nested(name: str, value: object) -> dict[str, object]:
    head, _, rest = name.partition(".")
    return {head: _nested(rest, value)} if rest else {head: value}


def _leaves(part: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, one in part["properties"].items():
        if one.get("type") == "object":
            yield from _leaves(one, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", one


def _at(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(_leaves(part))[name]


def _number(leaf: Mapping[str, Any], value: float) -> float:
    return int(value) if "integer" in leaf["type"] else value
