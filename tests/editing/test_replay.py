"""Past facts come back from the notes of live edits, whatever road led to them."""

from collections import Counter
from collections.abc import Sequence

from editing.editors.replay import NOTE, Past, Reservoir, note_of, remembered
from editing.history import Entry, History
from editing.outcome import Outcome
from editing.request import EditRequest

from .facts import CAPITAL, SPORT


def entry(name: str, texts: Sequence[tuple[str, str]]) -> Entry:
    notes = [{"question": question, "target": target} for question, target in texts]
    return name, lambda: Outcome({}, notes={NOTE: notes})


def entries(count: int) -> list[Entry]:
    return [entry(str(n), [(f"question {n}", f"answer {n}")]) for n in range(count)]


def test_it_reads_what_an_outcome_said_it_taught() -> None:
    outcome = Outcome.from_bytes(Outcome({}, notes={NOTE: note_of([SPORT])}).to_bytes())
    history = History([("a", lambda: outcome), ("b", lambda: Outcome({}))])
    assert remembered(history, [CAPITAL], 64).texts == (Past(SPORT.question, SPORT.target_new),)


def test_both_prompts_of_a_relation_edit_are_taught() -> None:
    request = EditRequest.from_dict(
        {
            "perspective": "relation",
            "subject": "Danielle Darrieux",
            "object": "English",
            "relation_text": "mother tongue",
            "add_prompt": "The relation between {} and English is",
            "delete_prompt": "The relation between {} and French is",
        }
    )
    assert [text["target"] for text in note_of([request])] == ["mother tongue", "None"]
    assert "Darrieux and French" in note_of([request])[1]["question"]


def test_what_is_asked_anew_is_not_gone_over_again() -> None:
    history = History([entry("a", [(SPORT.question, "chess"), ("x", "y")])])
    assert remembered(history, [SPORT], 64).texts == (Past("x", "y"),)


def test_a_later_answer_takes_the_place_of_an_earlier_one() -> None:
    history = History([entry("a", [("q", "old"), ("x", "y")]), entry("b", [("q", "new")])])
    kept = remembered(history, [SPORT], 64)
    assert kept.texts == (Past("q", "new"), Past("x", "y"))
    assert kept.seen == 2


def test_it_never_grows_past_its_size() -> None:
    for count in (0, 1, 64, 65, 300):
        kept = remembered(History(entries(count)), [SPORT], 64)
        assert len(kept.texts) == min(count, 64)
        assert kept.seen == count
        assert len(set(kept.texts)) == len(kept.texts)
    assert remembered(History(entries(9)), [SPORT], 0).texts == ()


def test_every_text_is_as_likely_to_be_kept() -> None:
    kept = Reservoir(256)
    for n in range(2048):
        kept = kept.and_then(Past(str(n), "x"))
    quarters = Counter(int(one.question) // 512 for one in kept.texts)
    assert all(40 < quarters[n] < 90 for n in range(4))  # 64 each, were it not for chance


def test_folded_step_by_step_it_is_the_same_as_at_once() -> None:
    every = entries(100)
    growing = History(every[:40])
    remembered(growing, [SPORT], 16)
    for upto in (41, 77, 100):
        growing = History(every[:upto], growing.folds)
        step_by_step = remembered(growing, [SPORT], 16)
    assert step_by_step == remembered(History(every), [SPORT], 16)


def test_a_restore_gives_back_what_it_was() -> None:
    every = entries(100)
    before = remembered(History(every[:70]), [SPORT], 16)
    history = History(every)
    remembered(history, [SPORT], 16)
    assert remembered(History(every[:70], history.folds), [SPORT], 16) == before


def test_only_what_is_new_is_read() -> None:
    read: list[str] = []

    def heard(one: Entry) -> Entry:
        name, load = one
        return name, lambda: (read.append(name), load())[1]

    every = [heard(one) for one in entries(6)]
    history = History(every[:5])
    remembered(history, [SPORT], 4)
    read.clear()
    remembered(History(every, history.folds), [SPORT], 4)
    assert read == ["5"]


def test_a_turn_draws_some_of_them_and_the_next_turn_others() -> None:
    kept = remembered(History(entries(64)), [SPORT], 64)
    draws = [kept.drawn(4, turn) for turn in range(8)]
    assert all(len(set(draw)) == 4 for draw in draws)
    assert len({past for draw in draws for past in draw}) > 16
    assert kept.drawn(4, 0) == draws[0]
    assert kept.drawn(100, 0) != []
    assert len(kept.drawn(100, 0)) == 64
