"""One thread for the small matrices of these tests, and tiny views with their statistics."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from editing.model.view import ModelView
from tests.tiny import LAYOUTS, tiny_view

MakeView = Callable[..., ModelView]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def statistics_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the views of this session: artefacts are named by what made them."""
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_view(statistics_folder: Path) -> MakeView:
    def make(layout: str, **options: object) -> ModelView:
        return tiny_view(layout, **{"stats_folder": statistics_folder, **options})

    return make


@pytest.fixture
def view(layout: str, make_view: MakeView) -> ModelView:
    """A view of its own for each test, of every layout."""
    return make_view(layout)


@pytest.fixture
def llama(make_view: MakeView) -> ModelView:
    """Where the layout does not matter."""
    return make_view("llama")
