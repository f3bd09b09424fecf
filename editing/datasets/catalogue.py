"""The benchmarks that are read by name: where each lies below a data folder, and where it is from.

No checksum is written down that the file's own host does not state; where there is none, a download
tells the one that it found, and keeps to it afterwards (errata.cli.data).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from editing.errors import UnknownDataset

_ROME = "https://rome.baulab.info/data/dsets"
# Kept by Git LFS: the raw addresses of GitHub give a pointer, these lead on to the file itself.
_RIPPLE = "https://github.com/edenbiran/RippleEdits/raw/{}/data/benchmark/{}.json"
# Where the pointer could be read, the file is taken at its commit, and the pointer has its sha256.
_RIPPLE_POINTERS = {
    "recent": (
        "21182d13b6ddaa50f023052d13ff59e279deec05",
        "bc71807ea72280e2587bd1974fc79ae7e23aa24b1d5887bcdced40d448910547",
    ),
}
_LRE = "https://raw.githubusercontent.com/evandez/relations/main/data/factual"

# The factual relations that sets of edits of one subject are built from.
_RELATIONS = (
    "city_in_country",
    "company_ceo",
    "company_hq",
    "country_capital_city",
    "country_currency",
    "country_language",
    "country_largest_city",
    "food_from_country",
    "landmark_in_country",
    "landmark_on_continent",
    "person_band_lead_singer",
    "person_father",
    "person_mother",
    "person_native_language",
    "person_occupation",
    "person_plays_instrument",
    "person_plays_position_in_sport",
    "person_plays_pro_sport",
    "person_university",
    "pokemon_evolutions",
    "presidents_birth_year",
    "presidents_election_year",
    "product_by_company",
    "star_constellation",
    "superhero_archnemesis",
    "superhero_person",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One public benchmark."""

    name: str
    title: str
    source: str  # the paper
    licence: str
    files: tuple[str, ...]  # where it may lie below a data folder; the first is where it is put
    urls: Mapping[str, str]  # file below the first of `files` ("" = that itself) -> public address
    sha256: Mapping[str, str] | None = None  # of those files, where known
    note: str = ""


DATASETS: Mapping[str, Dataset] = {
    one.name: one
    for one in (
        Dataset(
            name="counterfact",
            title="CounterFact, in the authors' own form",
            source="arXiv:2202.05262",
            licence="MIT",
            files=("counterfact/counterfact_full.json", "counterfact/counterfact.json"),
            urls={"": f"{_ROME}/counterfact.json"},
        ),
        Dataset(
            name="counterfact-flat",
            title="CounterFact in EasyEdit's form",
            source="arXiv:2202.05262",
            licence="MIT",
            files=("counterfact/counterfact-edit.json",),
            urls={},
            note="Part of the data of github.com/zjunlp/EasyEdit.",
        ),
        Dataset(
            name="zsre",
            title="zsRE, MEND's evaluation part",
            source="arXiv:2110.11309",
            licence="MIT",
            files=("zsre/zsre_mend_eval.json",),
            urls={"": f"{_ROME}/zsre_mend_eval.json"},
        ),
        *(
            Dataset(
                name=f"ripple-{split}",
                title=f"RippleEdits, split {split}",
                source="arXiv:2307.12976",
                licence="MIT",
                files=(f"ripple_edits/{split}.json",),
                urls={"": _RIPPLE.format(commit, split)},
                sha256={"": digest} if digest else None,
            )
            for split in ("popular", "random", "recent")
            for commit, digest in [_RIPPLE_POINTERS.get(split, ("main", None))]
        ),
        Dataset(
            name="knowedit-ripple",
            title="RippleEdits' popular split in KnowEdit's form",
            source="arXiv:2401.01286",
            licence="MIT",
            files=("ripple_edits/popular_knowedit.json",),
            urls={},
            note="wiki_counterfact of huggingface.co/datasets/zjunlp/KnowEdit.",
        ),
        Dataset(
            name="known-facts",
            title="Facts that GPT-2 XL knows, of ROME's causal tracing",
            source="arXiv:2202.05262",
            licence="MIT",
            files=("known_facts/known_1000.json",),
            urls={"": f"{_ROME}/known_1000.json"},
        ),
        Dataset(
            name="relations",
            title="Relations of subjects and objects (LRE), the factual ones",
            source="arXiv:2308.09124",
            licence="MIT",
            files=("relations",),
            urls={f"{name}.json": f"{_LRE}/{name}.json" for name in _RELATIONS},
        ),
        Dataset(
            name="s2rke",
            title="S2RKE: edits of one subject",
            source="arXiv:2502.06868",
            licence="see its repository",
            files=("s2rke/s2rke.json",),
            urls={},
            note="S2RKE.json in github.com/Zhow01/S2RKE, as its authors say there.",
        ),
    )
}


def dataset(name: str) -> Dataset:
    """Find a dataset by name. Raises UnknownDataset."""
    try:
        return DATASETS[name]
    except KeyError:
        raise UnknownDataset(name, known=list(DATASETS)) from None
