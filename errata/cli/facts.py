"""Facts and hparams, read from flags and files."""

import json
from pathlib import Path
from typing import Any

import typer

from errata.calls import Fact
from errata.results import Json


def fact(
    *,
    subject: str | None,
    prompt: str | None,
    target_new: str | None,
    target_true: str | None,
    paraphrases: list[str] | None,
    neighbors: list[str] | None,
) -> Fact | None:
    """Make one fact; None when it is not whole."""
    if subject is None or prompt is None or target_new is None:
        return None
    made: Fact = {"subject": subject, "prompt": prompt, "target_new": target_new}
    if target_true is not None:
        made["target_true"] = target_true
    if paraphrases:
        made["paraphrases"] = paraphrases
    if neighbors:
        pairs = [_pair(each, "--neighbor") for each in neighbors]
        made["neighborhood"] = [{"prompt": asked, "target": said} for asked, said in pairs]
    return made


def from_file(file: Path) -> list[Json]:
    """Read a list of facts, or an object with `requests`."""
    try:
        data: Any = json.loads(file.read_text())
    except ValueError as error:
        message = f"{file} is not JSON: {error}"
        raise typer.BadParameter(message) from error
    requests: Any = data.get("requests") if isinstance(data, dict) else data
    if not isinstance(requests, list) or not all(isinstance(each, dict) for each in requests):
        message = f"{file} must hold a list of requests"
        raise typer.BadParameter(message)
    return requests


def from_one_or_many(file: Path) -> list[Json]:
    """Read one fact, or a list of them."""
    try:
        data: Any = json.loads(file.read_text())
    except ValueError:
        data = None
    return [data] if isinstance(data, dict) and "requests" not in data else from_file(file)


def hparams(given: list[str] | None, flag: str = "--hparam") -> Json:
    """Read NAME=JSON; a dotted name goes into a block: search.steps=20."""
    made: Json = {}
    for each in given or ():
        name, text = _pair(each, flag)
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        *blocks, last = name.split(".")
        place = made
        for block in blocks:
            place = place.setdefault(block, {})
            if not isinstance(place, dict):
                message = f"{flag} {each!r}: {block!r} is already a value"
                raise typer.BadParameter(message)
        place[last] = value
    return made


def _pair(text: str, flag: str) -> tuple[str, str]:
    # A prompt may hold a "=", and so may JSON: the first is read from its end.
    left, found, right = text.rpartition("=") if flag == "--neighbor" else text.partition("=")
    if not found or not left:
        message = f"{flag} takes NAME=VALUE, not {text!r}"
        raise typer.BadParameter(message)
    return left, right
