"""Small networks of MEND for the tiny models, and the records that they are trained on."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from editing.editors.hypernet import Hypernet
from editing.editors.lessons import Lessons, texts_of
from editing.editors.token_gradients import token_gradients
from editing.hparams import MendRecipe
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest, Neighbor
from editing.training.artefact import RunKey, matrices_of, save_net
from editing.training.check import Check
from editing.tuned import placement

_SPORTS = {
    "LeBron James": "basketball",
    "Lionel Messi": "football",
    "Serena Williams": "tennis",
    "Kobe Bryant": "basketball",
    "Diego Maradona": "football",
    "Roger Federer": "tennis",
}
_LEADS = ("", "Therefore we know. ", "The old man said. ", "I like the sea. ")
_CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid"}
NOTHING = Check(
    iteration=0, loss=0, edit=0, locality=0, efficacy=0, paraphrase=0, neighborhood=0
)  # a network that nobody judged


def records() -> list[EditRequest]:
    """Facts of the tiny models behind several leads, with neighbors that must not move.

    Nothing but their own records speaks of LeBron James or Italy, so that these can be left out.
    """
    found: list[EditRequest] = []
    for prompt, answers in (
        ("{} plays the sport of", _SPORTS),
        ("The capital of {} is", _CAPITALS),
    ):
        choices = sorted(set(answers.values()))
        for subject, answer in answers.items():
            near = [one for one in answers if one not in {subject, "LeBron James", "Italy"}]
            for number, lead in enumerate(_LEADS):
                asked = lead + prompt
                found.append(
                    EditRequest(
                        subject=subject,
                        prompt=asked,
                        target_new=[one for one in choices if one != answer][number % 2],
                        target_true=answer,
                        paraphrases=("You are from the house. " + asked.replace("{}", subject),),
                        neighborhood=tuple(
                            Neighbor(prompt=asked.replace("{}", other), target=answers[other])
                            for other in near
                        ),
                    )
                )
    return found


def shapes_of(view: ModelView, layers: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    return {name: (rows, columns) for name, rows, columns in matrices_of(view, layers)}


def lend_net(view: ModelView, alpha: float = 0.005) -> str:
    """Put a network that only scales what it is given where the editor looks for a trained one."""
    if view.stats.folder is None:
        view.stats.folder = _folder()
    layers = placement("mend", view.facts)
    recipe = MendRecipe(rank=4, alpha=alpha)
    key = RunKey.of(view, layers, recipe, "none", 0)
    known = view.stats.folder / f"mend-{key.place}-{key.net(0)}.safetensors"
    if known.exists():
        known.touch()  # the newest one is taken
        return key.net(0)
    net = Hypernet(shapes_of(view, layers), rank=4, alpha=alpha, seed=0)
    with view.showing(State()):
        rows = [text for record in records()[::3] for text in texts_of(view, record)]
        lessons = Lessons.of(view, rows, layers[0])
        net.see(token_gradients(view, lessons, net.names)[0])
    with torch.no_grad():
        return save_net(view.stats.folder, key, net.state_dict(), NOTHING)


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="errata-nets-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
