"""CounterFact's field names are translated once; records are read from what lies at a path."""

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from editing.datasets.counterfact import read_counterfact
from editing.datasets.files import read_records
from editing.datasets.slot import with_slot
from editing.errors import BadRequest
from editing.request import EditRequest, Neighbor

RECORD: dict[str, Any] = {
    "case_id": 0,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Shayna does this. Danielle Darrieux, a native", "She spoke"],
    "neighborhood_prompts": ["The mother tongue of Léon Blum is"],
    "attribute_prompts": ["The mother tongue of Fred Savage is"],
    "generation_prompts": ["Danielle Darrieux lives in"],
}


def write(folder: Path, records: object) -> Path:
    file = folder / "counterfact.json"
    file.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return file


def test_a_record_becomes_a_request(tmp_path: Path) -> None:
    assert read_counterfact(write(tmp_path, [RECORD])) == [
        EditRequest(
            subject="Danielle Darrieux",
            prompt="The mother tongue of {} is",
            target_new="English",
            target_true="French",
            relation="P103",
            paraphrases=("Shayna does this. Danielle Darrieux, a native", "She spoke"),
            neighborhood=(Neighbor(prompt="The mother tongue of Léon Blum is", target="French"),),
        )
    ]


def test_a_flat_record_becomes_a_request_too(tmp_path: Path) -> None:
    flat = {
        "case_id": 7,
        "prompt": "Apple A5 was created by",
        "subject": "Apple A5",
        "target_new": "Google",
        "ground_truth": "Apple",
        "rephrase_prompt": "Apple A5 is a product of",
        "locality_prompt": "Calendar Server was created by",
        "locality_ground_truth": "Apple",
    }
    own, other = read_counterfact(write(tmp_path, [RECORD, flat]))
    assert own.subject == "Danielle Darrieux"
    assert other == EditRequest(
        subject="Apple A5",
        prompt="{} was created by",
        target_new="Google",
        target_true="Apple",
        paraphrases=("Apple A5 is a product of",),
        neighborhood=(Neighbor(prompt="Calendar Server was created by", target="Apple"),),
    )
    del flat["locality_prompt"]
    with pytest.raises(BadRequest, match="record 0 lacks 'locality_prompt'"):
        read_counterfact(write(tmp_path, [flat]))


def test_a_part_of_a_file_is_read(tmp_path: Path) -> None:
    records = [deepcopy(RECORD) for _ in range(5)]
    for number, record in enumerate(records):
        record["requested_rewrite"]["subject"] = f"S{number}"
    file = write(tmp_path, records)
    found = read_counterfact(file, offset=1, limit=2)
    assert [request.subject for request in found] == ["S1", "S2"]
    assert [request.subject for request in read_counterfact(file, offset=3)] == ["S3", "S4"]
    assert read_counterfact(file, offset=9) == []


@pytest.mark.parametrize(
    "path",
    [
        ("requested_rewrite",),
        ("requested_rewrite", "subject"),
        ("requested_rewrite", "target_true"),
        ("requested_rewrite", "target_new", "str"),
        ("paraphrase_prompts",),
        ("neighborhood_prompts",),
    ],
)
def test_a_record_that_lacks_a_field_is_refused_by_its_number(
    tmp_path: Path, path: tuple[str, ...]
) -> None:
    broken = deepcopy(RECORD)
    inner = broken
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    file = write(tmp_path, [RECORD, RECORD, broken])
    with pytest.raises(BadRequest, match=rf"record 2 lacks '{path[-1]}'") as raised:
        read_counterfact(file, offset=1)
    assert raised.value.fields == {"record": 2}
    assert len(read_counterfact(file, limit=2)) == 2


@pytest.mark.parametrize("records", [["a text"], [None], [{"requested_rewrite": "a text"}]])
def test_another_form_is_refused_in_words(tmp_path: Path, records: list[object]) -> None:
    with pytest.raises(BadRequest, match="authors' own form"):
        read_counterfact(write(tmp_path, records))


@pytest.mark.parametrize(
    ("content", "words"), [(b"[{", "no JSON"), (b"\xff\xfe", "no JSON"), (b"{}", "no list")]
)
def test_what_is_no_list_of_records_is_refused_by_its_name(
    tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "counterfact.json"
    file.write_bytes(content)
    with pytest.raises(BadRequest, match=words) as raised:
        read_counterfact(file)
    assert raised.value.fields == {"path": str(file)}


@pytest.mark.data
def test_the_whole_benchmark_is_read() -> None:
    folder = os.environ.get("ERRATA_DATA")
    if not folder:
        pytest.skip("set ERRATA_DATA to a folder with counterfact/counterfact_full.json")
    requests = read_counterfact(Path(folder) / "counterfact" / "counterfact_full.json")
    assert len(requests) > 100
    assert all(request.target_true for request in requests)
    assert all(len(request.paraphrases) == 2 for request in requests)
    assert all(near.target == r.target_true for r in requests for near in r.neighborhood)


class TestRecordsOfAPath:
    def test_a_list_and_lines_and_a_folder_are_read(self, tmp_path: Path) -> None:
        records = [{"n": number} for number in range(4)]
        lines = tmp_path / "records.jsonl"
        lines.write_text("\n".join(map(json.dumps, records)) + "\n\n", "utf-8")
        assert read_records(write(tmp_path, records)) == read_records(lines) == records
        folder = tmp_path / "relations"
        folder.mkdir()
        (folder / "b.json").write_text('{"name": "b"}')
        (folder / "a.json").write_text('[{"name": "a"}, {"name": "c"}]')
        assert [one["name"] for one in read_records(folder)] == ["a", "c", "b"]

    def test_a_slice_is_read(self, tmp_path: Path) -> None:
        file = write(tmp_path, [{"n": number} for number in range(4)])
        assert [one["n"] for one in read_records(file, offset=1, limit=2)] == [1, 2]
        assert [one["n"] for one in read_records(file, offset=3, limit=9)] == [3]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"[{", "no JSON"),
            (b"\xff\xfe", "no UTF-8"),
            (b"3", "no list"),
            (b'[{"n": 1}, 2]', "Record 1 of broken.json"),
            (b"[" * 100_000, "no JSON"),
            (b"[]", "has 0 records"),
        ],
    )
    def test_what_holds_no_records_is_refused(
        self, tmp_path: Path, content: bytes, words: str
    ) -> None:
        file = tmp_path / "broken.json"
        file.write_bytes(content)
        with pytest.raises(BadRequest, match=words):
            read_records(file)

    def test_a_slice_that_holds_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadRequest, match="has 1 records, none from number 1 on"):
            read_records(write(tmp_path, [{"n": 1}]), offset=1)

    def test_a_path_that_is_none_or_too_large_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadRequest, match="nothing at"):
            read_records(tmp_path / "none.json")
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(BadRequest, match="holds no"):
            read_records(empty)
        with pytest.raises(BadRequest, match="at most 3 are read"):
            read_records(write(tmp_path, [{"n": 1}]), largest=3)


@pytest.mark.parametrize(
    ("prompt", "subject", "found"),
    [
        ("Yemen is where Ye lives", "Ye", "Yemen is where {} lives"),
        ("Ann likes Ann", "Ann", "{} likes Ann"),
        ("日本の首都は", "日本", "{}の首都は"),
        ("The capital is", "Italy", None),
        ("The capital is", " ", None),
        ("{} is", "is", None),
    ],
)
def test_the_slot_of_a_subject(prompt: str, subject: str, found: str | None) -> None:
    assert with_slot(prompt, subject) == found
