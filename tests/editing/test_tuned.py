"""What the papers tuned, and where the rules place what nobody tuned."""

import pytest

from editing.catalogue import METHODS
from editing.errors import InvalidHparam
from editing.hparams import MemitHparams
from editing.knobs import check, resolve
from editing.model.layout import LAYOUTS
from editing.tuned import DEPTHS, SHAPES, TUNED, ModelFacts, placement, published

from .facts import searches

GPT2_XL = ModelFacts("gpt2", 48, 1600, 6400)
GPT_J = ModelFacts("gptj", 28, 4096, 16384)
LLAMA_2 = ModelFacts("llama", 32, 4096, 11008)
LLAMA_3 = ModelFacts("llama", 32, 4096, 14336)
SMOLLM2 = ModelFacts("llama", 30, 576, 1536)
PUBLISHED = {"gpt2-xl": GPT2_XL, "gpt-j": GPT_J, "llama-2-7b": LLAMA_2, "llama-3-8b": LLAMA_3}


@pytest.fixture(params=[name for name in METHODS if searches(name)])
def editor(request: pytest.FixtureRequest) -> str:
    return request.param


class TestPublishedRows:
    """The values of the authors' own files (EDITORS 0.5)."""

    @pytest.mark.parametrize(
        ("facts", "steps", "weight_decay", "layer"),
        [
            (GPT2_XL, 20, 0.5, 17),
            (GPT_J, 20, 0.5, 5),
            (LLAMA_2, 25, 1e-3, 5),
            (LLAMA_3, 25, 1e-3, 5),
        ],
        ids=PUBLISHED,
    )
    @pytest.mark.parametrize("rome", ["rome", "r-rome"])
    def test_rome(
        self, rome: str, facts: ModelFacts, steps: int, weight_decay: float, layer: int
    ) -> None:
        hparams = resolve(rome, {}, facts)
        search = hparams.search
        assert hparams.layers == (layer,)
        assert (search.steps, search.lr, search.max_norm) == (steps, 0.5, 4.0)
        assert (search.weight_decay, search.kl_factor) == (weight_decay, 0.0625)
        assert hparams.contexts.prefixes == 20

    @pytest.mark.parametrize(
        ("facts", "numbers", "weight", "layers"),
        [
            (GPT2_XL, (20, 0.5, 0.75, 0.5), 20_000, (13, 14, 15, 16, 17)),
            (GPT_J, (25, 0.5, 0.75, 0.5), 15_000, (3, 4, 5, 6, 7, 8)),
            (LLAMA_2, (25, 0.5, 4, 1e-3), 15_000, (4, 5, 6, 7, 8)),
            (LLAMA_3, (25, 0.1, 0.75, 0.5), 15_000, (4, 5, 6, 7, 8)),
        ],
        ids=PUBLISHED,
    )
    @pytest.mark.parametrize("memit", ["memit", "memit-history"])
    def test_memit(
        self,
        memit: str,
        facts: ModelFacts,
        numbers: tuple[float, ...],
        weight: float,
        layers: tuple[int, ...],
    ) -> None:
        hparams = resolve(memit, {}, facts)
        assert isinstance(hparams, MemitHparams)
        search = hparams.search
        assert (search.steps, search.lr, search.max_norm, search.weight_decay) == numbers
        assert hparams.second_moment_weight == weight
        assert hparams.layers == layers
        assert hparams.contexts.prefixes == 5

    def test_every_row_passes_its_own_check(self, editor: str) -> None:
        for facts in PUBLISHED.values():
            check(editor, published(editor, facts))

    @pytest.mark.parametrize(
        "row", [(m, name) for m, rows in TUNED.items() for name in rows], ids=str
    )
    def test_every_row_is_of_a_known_shape_and_fits_it(self, row: tuple[str, str]) -> None:
        editor, name = row
        model_type, layers, d_key = next(shape for shape, one in SHAPES.items() if one == name)
        facts = ModelFacts(model_type, layers, d_key // 4, d_key)
        given = TUNED[editor][name]
        hparams = resolve(editor, {}, facts)
        if "layers" in given:
            assert hparams.layers == given["layers"]
        assert published(editor, facts) == given

    @pytest.mark.parametrize(
        ("editor", "facts", "expected"),
        [
            ("emmet", GPT2_XL, {"layers": (17,), "second_moment_weight": 1e4, "damping": 0.1}),
            ("emmet", LLAMA_2, {"layers": (5,), "second_moment_weight": 1e5}),
            (
                "alphaedit",
                GPT_J,
                {"layers": (3, 4, 5, 6, 7, 8), "threshold": 0.02, "damping": 10.0},
            ),
            ("pmet", GPT_J, {"second_moment_weight": 15_000.0, "write": "mlp"}),
        ],
    )
    def test_further_rows(
        self, editor: str, facts: ModelFacts, expected: dict[str, object]
    ) -> None:
        hparams = resolve(editor, {}, facts)
        assert {name: getattr(hparams, name) for name in expected} == expected

    def test_pmet_searches_gently_and_watches_the_essence(self) -> None:
        search = resolve("pmet", {}, GPT_J).search
        assert (search.steps, search.lr, search.kl_factor, search.max_norm) == (30, 0.2, 1.0, 0.75)

    def test_another_shape_has_no_row(self, editor: str) -> None:
        assert published(editor, SMOLLM2) == {}
        assert published(editor, ModelFacts("qwen2", 32, 4096, 11008)) == {}


def test_where_a_norm_follows_the_write_the_search_reaches_less_far(editor: str) -> None:
    plain, normed = (ModelFacts("gemma2", 26, 2304, 9216, flag) for flag in (False, True))
    assert resolve(editor, {}, plain).search.max_norm == 4.0
    assert resolve(editor, {}, normed).search.max_norm == 1.0
    assert resolve(editor, {"search.max_norm": 2.0}, normed).search.max_norm == 2.0


class TestPlacement:
    @pytest.mark.parametrize(
        ("facts", "rome", "band"),
        [
            (ModelFacts("gpt2", 24, 1024, 4096), 8, (5, 6, 7, 8)),
            (ModelFacts("gpt2", 12, 768, 3072), 4, (3, 4)),
            (ModelFacts("qwen2", 28, 3584, 18944), 8, (8, 9, 10, 11)),
            (ModelFacts("llama", 28, 3072, 8192), 4, (4, 5, 6, 7)),
            (SMOLLM2, 5, (4, 5, 6, 7, 8)),
            (ModelFacts("llama", 80, 8192, 28672), 13, (15, 16, 17, 18, 19, 20)),
            (ModelFacts("gptj", 2, 8, 32), 0, (0,)),
            (ModelFacts("unheard-of", 32, 8, 32), 5, (4, 5, 6, 7, 8)),
            (ModelFacts("mistral", 32, 4096, 14336), 5, (4, 5, 6, 7, 8)),
            (ModelFacts("gpt_neox", 32, 2560, 10240), 11, (7, 8, 9, 10, 11)),  # pythia-2.8b
            (ModelFacts("qwen3", 28, 2048, 6144), 8, (8, 9, 10, 11)),
            (ModelFacts("gemma3_text", 18, 640, 2048), 3, (2, 3, 4)),
        ],
    )
    def test_a_rule_places_the_layers_of_any_depth(
        self, facts: ModelFacts, rome: int, band: tuple[int, ...]
    ) -> None:
        assert placement("rome", facts) == placement("r-rome", facts) == (rome,)
        assert placement("memit", facts) == placement("memit-history", facts) == band

    @pytest.mark.parametrize("editor", ["ultraedit", "ultra-rls"])
    def test_one_step_is_written_late_and_not_in_the_last_layers(self, editor: str) -> None:
        assert (
            placement(editor, GPT_J) == published(editor, GPT_J)["layers"] == tuple(range(18, 27))
        )
        assert placement(editor, SMOLLM2) == tuple(range(19, 29))
        for layers in range(1, 130):
            found = placement(editor, ModelFacts("llama", layers, 8, 32))
            assert found == tuple(range(found[0], found[-1] + 1))
            assert 0 <= found[0] <= found[-1] < layers

    def test_every_mapped_family_has_its_depths(self) -> None:
        assert set(DEPTHS) == set(LAYOUTS)

    @pytest.mark.parametrize("family", [*DEPTHS, "unheard-of"])
    def test_every_depth_gets_a_band_that_fits(self, editor: str, family: str) -> None:
        for layers in range(2, 130):
            hparams = resolve(editor, {}, ModelFacts(family, layers, 8, 32))
            first, last = hparams.layers[0], hparams.layers[-1]
            assert 0 <= first <= last <= layers - 2
            assert hparams.layers == tuple(range(first, last + 1))
            assert len(hparams.layers) <= 6

    def test_a_model_of_one_layer_is_refused_in_words(self, editor: str) -> None:
        with pytest.raises(InvalidHparam, match="1 layer"):
            resolve(editor, {}, ModelFacts("llama", 1, 8, 32))
