"""From what a caller sends to frozen hparams, and from hparams to their JSON schema. No torch."""

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from .catalogue import method as find_method
from .errors import InvalidHparam, NonFiniteValue, UnknownHparam
from .hparams import Hparams
from .tuned import ModelFacts, behind_a_norm, bounded, late_placement, placement, published


def check(method: str, overrides: Mapping[str, object]) -> None:
    """Refuse a knob that the method does not have, or a value it cannot take.

    Raises UnknownEditor, UnknownHparam, InvalidHparam or NonFiniteValue.
    """
    _check_all(dict(_leaves(find_method(method).hparams)), overrides, method)


def resolve(method: str, overrides: Mapping[str, object], facts: ModelFacts) -> Hparams:
    """Defaults, then the rules, then the published row, then the caller's overrides."""
    check(method, overrides)
    kind = find_method(method).hparams
    known = dict(_leaves(kind))
    given = {name: _plain(value, known[name][0]) for name, value in _flat(overrides)}
    values = {**behind_a_norm(facts), **bounded(method, facts), **published(method, facts), **given}
    values = {name: value for name, value in values.items() if name in known}
    if "layers" in known:
        values.setdefault("layers", placement(method, facts))
    if "late_layers" in known and values.get("late_layers") is None:
        values["late_layers"] = late_placement(method, facts)
    for name in ("layers", "late_layers"):
        if name in known:
            values[name] = _within(name, values[name], facts, searched="search.steps" in known)
    if values.get("key_site") == "prompt_last" and "layers" not in given:
        values["layers"] = values["late_layers"]
    return _build(kind, values)


def filled(kind: type, overrides: Mapping[str, object], *, of: str) -> Any:  # noqa: ANN401
    """A block of knobs with some of them set; `of` is what it is called in an error.

    Raises UnknownHparam, InvalidHparam or NonFiniteValue.
    """
    known = dict(_leaves(kind))
    _check_all(known, overrides, of)
    return _build(kind, {n: _plain(value, known[n][0]) for n, value in _flat(overrides)})


def _plain(value: object, hint: Any) -> object:  # noqa: ANN401 - a type hint
    """A checked value as its knob has it: a whole number for a float is one, so that 200 is 200.0.

    Hparams name what they made, a statistic or a joint solution, and equal ones must name it alike.
    """
    is_float = hint is float or float in get_args(hint)
    return float(value) if is_float and isinstance(value, int) else value


def _check_all(
    known: Mapping[str, tuple[Any, Field[Any]]], overrides: Mapping[str, object], of: str
) -> None:
    for name, value in _flat(overrides):
        if name not in known:
            raise UnknownHparam(name, editor=of, known=sorted(known))
        hint, knob = known[name]
        _check_value(name, value, hint, knob)


def _within(name: str, value: object, facts: ModelFacts, *, searched: bool) -> tuple[int, ...]:
    """Layers as a tuple. Raises InvalidHparam where the model has no such layers."""
    layers = tuple(cast("list[int]", value))
    # A search runs the layers above the last edited one, so there must be one.
    last = facts.layers - (2 if searched else 1)
    if not layers or not all(0 <= layer <= last for layer in layers):
        must = f"between 0 and {last} for this model of {facts.layers} layers"
        raise InvalidHparam(name, value=list(layers), must=must)
    return layers


def schema(method: str) -> dict[str, object]:
    """The hparams of a method as a JSON schema (2020-12)."""
    return _object_schema(find_method(method).hparams)


def schema_of(kind: type) -> dict[str, object]:
    """A block of knobs as a JSON schema (2020-12)."""
    return _object_schema(kind)


def _build(kind: type, values: Mapping[str, object]) -> Hparams:
    """`values` are dotted names; blocks are rebuilt from their defaults with what differs."""
    plain = {name: value for name, value in values.items() if "." not in name}
    for knob in fields(kind):
        block = {
            name.split(".", 1)[1]: value
            for name, value in values.items()
            if name.startswith(f"{knob.name}.")
        }
        if block:
            plain[knob.name] = replace(cast("Any", knob.default), **block)
    return kind(**plain)


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, object]", value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, tuple[Any, Field[Any]]]]:
    hints = get_type_hints(kind)
    for knob in fields(kind):
        hint = hints[knob.name]
        if is_dataclass(hint):
            yield from _leaves(cast("type", hint), f"{prefix}{knob.name}.")
        else:
            yield f"{prefix}{knob.name}", (hint, knob)


def _check_value(name: str, value: object, hint: Any, knob: Field[Any]) -> None:  # noqa: ANN401 - a type hint
    if get_origin(hint) in {Union, types.UnionType}:
        if value is None:
            return
        hint = next(part for part in get_args(hint) if part is not type(None))
    if choices := _choices(hint, knob):
        if value not in choices:
            raise InvalidHparam(name, value=value, must=f"one of {list(choices)}")
    elif get_origin(hint) is tuple:
        _check_layers(name, value, knob.metadata.get("length"))
    elif hint is bool:
        if not isinstance(value, bool):
            raise InvalidHparam(name, value=value, must="true or false")
    elif hint is str:
        if not isinstance(value, str) or not value:
            raise InvalidHparam(name, value=value, must="a text")
    else:
        _check_number(name, value, hint, knob)


def _choices(hint: Any, knob: Field[Any]) -> tuple[object, ...]:  # noqa: ANN401 - a type hint
    named: tuple[object, ...] = knob.metadata.get("choices", ())
    return named or (get_args(hint) if get_origin(hint) is Literal else ())


def _check_layers(name: str, value: object, length: int | None) -> None:
    must = "a list of different layer numbers from 0 up, lowest first"
    if length is not None:
        must = f"a list of {length} layer number"
    if not isinstance(value, list | tuple) or not value:
        raise InvalidHparam(name, value=value, must=must)
    layers = list(cast("list[object]", value))
    numbers = [n for n in layers if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
    if (
        len(numbers) < len(layers)
        or numbers != sorted(set(numbers))
        or (length is not None and len(layers) != length)
    ):
        raise InvalidHparam(name, value=value, must=must)


def _check_number(name: str, value: object, hint: type, knob: Field[Any]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise NonFiniteValue(field=f"hparams.{name}")
    low, high = knob.metadata["low"], knob.metadata["high"]
    kind = "a whole number" if hint is int else "a number"
    must = f"{kind} from {low:g} to {high:g}"
    fits = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if not fits or not low <= cast("float", value) <= high:
        raise InvalidHparam(name, value=value, must=must)


_JSON = {int: "integer", float: "number", bool: "boolean", str: "string"}


def _object_schema(kind: type) -> dict[str, object]:
    hints = get_type_hints(kind)
    properties = {knob.name: _value_schema(hints[knob.name], knob) for knob in fields(kind)}
    says = (kind.__doc__ or "").split("\n", 1)[0]
    return {
        "type": "object",
        "description": says,
        "properties": properties,
        "additionalProperties": False,
    }


def _value_schema(hint: Any, knob: Field[Any]) -> dict[str, object]:  # noqa: ANN401 - a type hint
    if is_dataclass(hint):
        return _object_schema(cast("type", hint))
    found: dict[str, object] = {"description": knob.metadata["says"]}
    if knob.default is not MISSING:
        found["default"] = knob.default
    if choices := _choices(hint, knob):
        return {**found, "enum": list(choices)}
    optional = get_origin(hint) in {Union, types.UnionType}
    if optional:
        hint = next(part for part in get_args(hint) if part is not type(None))
    name = "array" if get_origin(hint) is tuple else _JSON[hint]
    found["type"] = [name, "null"] if optional else name
    if name == "array":
        length = knob.metadata.get("length")
        limits = {"minItems": 1} if length is None else {"minItems": length, "maxItems": length}
        return {**found, "items": {"type": "integer", "minimum": 0}, **limits}
    if name == "string":
        found["minLength"] = 1
    if name in {"number", "integer"}:
        found |= {"minimum": knob.metadata["low"], "maximum": knob.metadata["high"]}
    return found
