"""A memory beside a weight: what it claims, what it leaves alone, who shares an entry, and out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from editing.delta import Memory
from editing.editors.entries import NOTE, entries_of
from editing.editors.gates import Gates, Keys
from editing.editors.site import hearing
from editing.errors import FactsInConflict, NotInWeights, SearchDiverged
from editing.history import Entry, History
from editing.hparams import MemoryHparams
from editing.metrics.gradsim import gram
from editing.model.export import export
from editing.model.generate import greedy
from editing.model.load import load_view
from editing.model.partial import by_row
from editing.model.recall import claims, recalled
from editing.model.scoring import score
from editing.model.state import State
from editing.model.tokens import encode
from editing.model.view import ModelView, layer_of
from editing.outcome import Outcome
from editing.repair import Disturbed, repair
from editing.request import EditRequest, Neighbor
from editing.retract import retract
from editing.run import finish
from editing.walk import already_answers

from .facts import (
    CAPITAL,
    OTHER_SPORT,
    SPORT,
    UNREACHABLE,
    hooked,
    logits_of,
    nudge,
    planned,
    run,
)

PLACE = replace(SPORT, prompt="{}, whose sport is", target_new="Paris", paraphrases=())
THIRD_SPORT = replace(OTHER_SPORT, subject="Serena Williams")
GAME = replace(SPORT, prompt="{} plays the game of", paraphrases=())
FAR = "A bridge, a river and a mountain are seen from the window"
APART = {"merge_above": 0.999}  # a tiny model hardly tells some subjects apart


def kept(view: ModelView, facts: Sequence[EditRequest], **overrides: object) -> Outcome:
    return run(view, "memory", facts, overrides)


def memory_of(state: State) -> Memory:
    (memory,) = state.memories.values()
    return memory


class Lineage:
    """Edits one after another, as a worker makes them: each on the head that the last one left."""

    def __init__(self, view: ModelView, **hparams: object) -> None:
        self.view = view
        self.hparams = hparams
        self.entries: list[Entry] = []

    def put(self, name: str, outcome: Outcome) -> Outcome:
        made = Outcome.from_bytes(outcome.to_bytes())
        self.view.adopt(self.view.after(made.deltas))
        self.entries.append(Entry(name, lambda: made, made.removes))
        return made

    def edit(self, name: str, *facts: EditRequest, editor: str = "memory") -> Outcome:
        overrides = {"layers": [1, 3]} if editor == "memit-history" else self.hparams
        history = History(self.entries)
        return self.put(name, run(self.view, editor, facts, overrides, history))

    def repair(self, name: str, fact: EditRequest, *disturbed: Disturbed) -> Outcome:
        plan = planned(self.view, "memory", self.hparams)
        work = repair(self.view, plan, History(self.entries), [fact], disturbed)
        return self.put(name, finish(work))

    @property
    def owners(self) -> list[tuple[str, int]]:
        """Whose the facts are that the live entries say, and which of the edit's they are."""
        entries = entries_of(History(self.entries)).values()
        return sorted((fact.edit, fact.number) for one in entries for fact in one.facts)

    def out(self, edit: str) -> Outcome:
        plan = planned(self.view, "memory", self.hparams)
        work = retract(self.view, plan, History(self.entries), edit)
        return self.put(f"without-{edit}", finish(work))


def says(view: ModelView, fact: EditRequest) -> bool:
    return finish(already_answers(view, [fact]))


# ---- what is claimed, and what is not ------------------------------------------------------------


def test_a_position_that_nothing_claims_keeps_its_bits() -> None:
    keys = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    memory = Memory.of(keys, torch.ones(3, 4), torch.tensor([0.9, 0.9, 2.0]))
    out = torch.full((4, 4), -0.0)
    asked = torch.stack([5 * keys[1], -keys[0], keys[2], torch.full((8,), torch.nan)])
    found = recalled(memory, asked, out)
    assert torch.equal(found[0], torch.ones(4))
    assert torch.signbit(found[1:]).all()  # minus zero is not zero


def test_the_nearest_entry_claims_and_only_by_its_own_gate() -> None:
    keys = torch.eye(2, 4)
    memory = Memory.of(keys, torch.tensor([[1.0], [2.0]]), torch.tensor([0.1, 0.9]))
    near_second = torch.tensor([[0.6, 0.8, 0, 0]])
    assert not claims(memory, near_second)[0].any()  # the first would, but it is not the nearest
    assert recalled(memory, near_second[:, [1, 0, 2, 3]], torch.zeros(1, 1)).item() == 1.0


def test_gradients_flow_past_a_memory_and_through_what_it_adds() -> None:
    weight = torch.randn(4, 8, requires_grad=True)
    key = torch.randn(3, 8)
    unit = torch.nn.functional.normalize(key[:1], dim=-1)
    memory = Memory.of(unit, torch.ones(1, 4), torch.tensor([0.99]))
    probe = torch.randn(3, 4)
    plain = torch.autograd.grad(((key @ weight.mT) * probe).sum(), weight)[0]
    beside = torch.autograd.grad((recalled(memory, key, key @ weight.mT) * probe).sum(), weight)[0]
    assert torch.equal(plain, beside)


def first_claimed(view: ModelView, state: State, text: str) -> int | None:
    """The first position of a text that a state's memory claims."""
    ((weight, memory),) = state.memories.items()
    spot = ("mlp", layer_of(weight))
    with hearing(view, [spot]) as heard:
        size = len(logits_of(view, text))
    claimed, _ = claims(memory, by_row(heard[spot].key, 1)[0])
    assert len(claimed) == size
    return next(iter(claimed.nonzero()[:, 0].tolist()), None)


def test_what_is_not_claimed_keeps_its_bits_and_the_subject_moves(view: ModelView) -> None:
    after = view.after(kept(view, [SPORT]).deltas)
    untouched = 0
    for text in (FAR, CAPITAL.question, "I like the sea", SPORT.question, f"{FAR} {SPORT.subject}"):
        before, at = logits_of(view, text), first_claimed(view, after, text)
        with view.showing(after):
            moved = logits_of(view, text)
        untouched += at is None
        assert torch.equal(moved[:at], before[:at])
        assert at is None or not torch.equal(moved[at:], before[at:])
        assert torch.equal(logits_of(view, text), before)
    assert untouched
    last = len(encode(view.tokenizer, SPORT.subject)) - 1
    assert first_claimed(view, after, SPORT.question) == last
    assert hooked(view) == []


def test_a_batch_padding_and_a_cache_change_nothing(view: ModelView) -> None:
    with view.overlaid(kept(view, [SPORT, CAPITAL]).deltas):
        prompts = [SPORT.question, CAPITAL.question, FAR, f"{FAR}. {SPORT.question}"]
        pairs = [(prompt, "tennis") for prompt in prompts]
        alone = [finish(score(view, [pair]))[0].logprob for pair in pairs]
        for left in (False, True):
            both = [one.logprob for one in finish(score(view, pairs, left_padding=left))]
            assert both == pytest.approx(alone, abs=1e-3)
        texts, _ = greedy(view, prompts, 6)
        for prompt, text in zip(prompts, texts, strict=True):
            assert greedy(view, [prompt], 6)[0] == [text]
            ids = encode(view.tokenizer, prompt)
            for _ in range(3):  # token by token from a whole pass each time
                said = view.tokenizer.decode(ids)
                ids.append(int(logits_of(view, said)[-1].argmax()))
            assert text.startswith(
                view.tokenizer.decode(ids[len(encode(view.tokenizer, prompt)) :])
            )


def test_what_others_measure_sees_it(llama: ModelView) -> None:
    facts = [(SPORT.question, "tennis"), (CAPITAL.question, "Rome")]
    before = finish(gram(llama, facts)).cosine
    with llama.overlaid(kept(llama, [SPORT]).deltas):
        after = finish(gram(llama, facts)).cosine
        question = [(SPORT.question, SPORT.target_new)]
        wanted = float(logits_of(llama, SPORT.question)[-1].log_softmax(-1).max())
        assert finish(score(llama, question))[0].logprob == pytest.approx(wanted, abs=1e-3)
    assert not torch.allclose(before, after)


# ---- gates ---------------------------------------------------------------------------------------


def test_a_gate_lies_between_the_facts_keys_and_all_others(llama: ModelView) -> None:
    (told,) = kept(llama, [SPORT]).notes["gates"]  # type: ignore[misc]
    assert told["apart"]
    assert told["gate"] == pytest.approx((told["inside"] + told["outside"]) / 2, abs=2e-4)
    near = replace(SPORT, neighborhood=(Neighbor(prompt="LeBron James said", target="so"),))
    assert kept(llama, [near]).notes["gates"] == [told]  # not looked at unless that is asked for
    shown, *_ = kept(llama, [near], neighborhood=True).notes["gates"]  # type: ignore[misc]
    assert shown["outside"] > told["outside"]
    assert shown["gate"] > told["gate"]
    with llama.overlaid(kept(llama, [near], neighborhood=True).deltas):
        assert says(llama, SPORT)  # its own prompt is let in all the same


def test_a_bare_prompt_unlike_the_others_has_a_key_of_its_own() -> None:
    columns = torch.eye(4, dtype=torch.float64)[[0, 1, 1, 2]]  # one bare prompt, three behind words
    columns[2, 0] = 0.1
    columns = torch.nn.functional.normalize(columns, dim=1)
    keys = Keys.of(columns, torch.zeros(4, dtype=torch.long), [0], 1)
    assert keys.entry.tolist() == [0, 0]
    assert keys.inside[1] == 1
    gates = Gates.between(keys, torch.tensor([0.2, 0.2]), MemoryHparams(layers=(1,)))
    assert gates.needed(keys).tolist() == [True, True]
    assert gates.gates.tolist() == pytest.approx([(float(keys.inside[0]) + 0.2) / 2, 0.6])
    like = Keys.of(columns[[1, 1, 2]], torch.zeros(3, dtype=torch.long), [0], 1)
    gates = Gates.between(like, torch.tensor([0.2, 0.2]), MemoryHparams(layers=(1,)))
    assert gates.needed(like).tolist() == [True, False]


@pytest.mark.parametrize(("text", "keys"), [("Italy has the capital", 2), ("So Italy has it", 1)])
def test_a_paraphrase_that_begins_with_its_subject_lowers_no_gate(
    llama: ModelView, text: str, keys: int
) -> None:
    fact = replace(CAPITAL, paraphrases=(text,))
    outcome = kept(llama, [fact], **{"contexts.paraphrases": True})
    first, *more = outcome.notes["gates"]  # type: ignore[misc]
    assert len(more) == keys - 1
    assert first["apart"]
    memory = memory_of(llama.after(outcome.deltas))
    with hearing(llama, [("mlp", layer_of(next(iter(outcome.deltas))))]) as heard:
        logits_of(llama, text)
    (key,) = (by_row(one.key, 1)[0] for one in heard.values())
    at = len(encode(llama.tokenizer, text.partition(" has")[0])) - 1
    assert claims(memory, key)[0][at]


def test_a_gate_may_be_given(llama: ModelView) -> None:
    outcome = kept(llama, [SPORT], gate=1.0)
    asked = logits_of(llama, SPORT.question)
    with llama.overlaid(outcome.deltas):
        assert torch.equal(logits_of(llama, SPORT.question), asked)
    assert set(memory_of(llama.after(outcome.deltas)).gates.tolist()) == {1.0}


def test_a_later_entry_keeps_clear_of_those_that_stand(llama: ModelView) -> None:
    (alone,) = kept(llama, [OTHER_SPORT]).notes["gates"]  # type: ignore[misc]
    lineage = Lineage(llama)
    lineage.edit("a", SPORT)
    (later,) = lineage.edit("b", OTHER_SPORT).notes["gates"]  # type: ignore[misc]
    memory = memory_of(llama.current)
    assert later["outside"] >= float(memory.keys[0] @ memory.keys[1]) - 1e-3
    assert later["gate"] > alone["gate"]
    assert says(llama, SPORT)


# ---- shared entries, succession, out -------------------------------------------------------------


def test_facts_of_one_key_share_an_entry_and_are_all_said(llama: ModelView) -> None:
    lineage = Lineage(llama)
    lineage.edit("a", SPORT)
    second = lineage.edit("b", PLACE)
    assert (second.removes, second.ends) == (("a#0",), ())
    assert second.notes["rewritten"] == ["a"]
    assert len(memory_of(llama.current)) == 1
    assert says(llama, SPORT)
    assert says(llama, PLACE)
    together = kept(ModelView(llama.model, llama.tokenizer), [SPORT, PLACE])
    assert len(together.notes[NOTE]) == 1  # type: ignore[arg-type]


def test_the_same_question_is_answered_anew(llama: ModelView) -> None:
    lineage = Lineage(llama)
    lineage.edit("a", SPORT)
    later = replace(SPORT, target_new="football")
    second = lineage.edit("b", later)
    assert (second.removes, second.ends) == (("a#0",), ("a",))
    assert second.notes["replaced"] == [{"edit": "a", "number": 0}]
    assert len(memory_of(llama.current)) == 1
    assert says(llama, later)
    assert not says(llama, SPORT)
    lineage.out("b")
    assert says(llama, SPORT)
    lineage.out("a")
    assert llama.current.memories == {}


@pytest.mark.parametrize("other", [CAPITAL, PLACE], ids=["apart", "shared"])
def test_of_an_edit_only_the_fact_that_was_replaced_ends(
    llama: ModelView, other: EditRequest
) -> None:
    lineage = Lineage(llama)
    base = llama.fingerprint()
    lineage.edit("a", SPORT, other)
    later = replace(SPORT, target_new="football")
    second = lineage.edit("b", later, THIRD_SPORT)
    assert second.ends == ()
    assert second.notes["replaced"] == [{"edit": "a", "number": 0}]
    assert second.notes.get("rewritten") == (["a"] if other is PLACE else None)
    assert lineage.owners == [("a", 1), ("b", 0), ("b", 1)]
    assert [says(llama, one) for one in (SPORT, other, later, THIRD_SPORT)] == [False, *[True] * 3]
    assert lineage.out("a").ends == ("a",)
    assert lineage.owners == [("b", 0), ("b", 1)]
    assert says(llama, later)
    assert lineage.out("b").ends == ("b",)
    assert llama.audit() == base


@pytest.mark.parametrize("later", [CAPITAL, THIRD_SPORT, PLACE], ids=["far", "near", "shared"])
def test_what_stood_before_an_edit_is_bit_for_bit_what_it_was_without_it(
    llama: ModelView, later: EditRequest
) -> None:
    lineage = Lineage(llama)
    lineage.edit("a", SPORT)
    bits = llama.audit()
    lineage.edit("b", later)
    assert llama.audit() != bits
    lineage.out("b")
    assert llama.audit() == bits


def test_what_came_after_an_edit_keeps_the_gate_that_it_was_given_beside_it(
    llama: ModelView,
) -> None:
    alone = memory_of(llama.after(kept(llama, [OTHER_SPORT]).deltas))
    lineage = Lineage(llama)
    lineage.edit("a", SPORT)
    (told,) = lineage.edit("b", OTHER_SPORT).notes["gates"]  # type: ignore[misc]
    lineage.out("a")
    memory = memory_of(llama.current)
    assert torch.equal(memory.keys, alone.keys)
    assert memory.gates.item() > alone.gates.item()
    assert memory.gates.item() == pytest.approx(told["gate"], abs=1e-4)


def test_without_an_edit_the_model_is_bit_for_bit_what_it_would_be(view: ModelView) -> None:
    base = view.fingerprint()
    lineage = Lineage(view, **APART)
    made = [lineage.edit(str(n), fact) for n, fact in enumerate((SPORT, CAPITAL, OTHER_SPORT))]
    never = view.after(made[2].deltas, view.after(made[0].deltas, State()))
    out = lineage.out("1")
    assert (out.removes, out.ends) == (("1#0",), ("1",))
    assert view.audit() == view.fingerprint(never)
    lineage.out("0")
    lineage.out("2")
    assert view.audit() == base
    with pytest.raises(KeyError):
        lineage.out("0")


def test_what_shared_an_entry_with_it_is_searched_again(llama: ModelView) -> None:
    lineage = Lineage(llama)
    base = llama.fingerprint()
    lineage.edit("a", SPORT)
    lineage.edit("b", PLACE)
    out = lineage.out("a")
    assert (out.removes, out.ends) == (("b#0",), ("a",))
    assert says(llama, PLACE)
    assert not says(llama, SPORT)
    with llama.showing(State()):
        alone = kept(llama, [PLACE])
    assert llama.fingerprint() == llama.fingerprint(llama.after(alone.deltas, State()))
    last = lineage.out("b")
    assert (last.removes, last.ends) == (("without-a#0",), ("b",))
    assert llama.audit() == base


def test_where_no_vector_says_both_the_order_is_refused(llama: ModelView) -> None:
    bits = llama.audit()
    with pytest.raises(FactsInConflict, match="whose sport is"):
        kept(llama, [SPORT, PLACE], joint_probability=1.0)
    with pytest.raises(SearchDiverged):
        kept(llama, [SPORT, UNREACHABLE], **{"search.min_probability": 0.5})
    assert llama.audit() == bits
    assert hooked(llama) == []


def test_an_entry_with_other_contexts_is_met_by_its_equal_key(llama: ModelView) -> None:
    lineage = Lineage(llama, **{"contexts.prefixes": 0})
    lineage.edit("a", SPORT)
    lineage.hparams = {"gate": 0.999}  # its mean lets in no bare prompt
    second = lineage.edit("b", PLACE)
    assert second.removes == ("a#0",)
    rows = memory_of(llama.current).keys
    assert len({bytes(row.numpy().tobytes()) for row in rows}) == len(rows) == 2
    lineage.out("b")
    assert len(memory_of(llama.current)) == 1
    assert says(llama, SPORT)


def test_at_the_prompts_end_two_relations_have_entries_of_their_own(llama: ModelView) -> None:
    outcome = kept(llama, [SPORT, PLACE], key_site="prompt_last", merge_above=0.98)
    assert len(outcome.notes[NOTE]) == 2  # type: ignore[arg-type]
    with llama.overlaid(outcome.deltas):
        assert says(llama, SPORT)
        assert says(llama, PLACE)


# ---- what no new vector says ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "hparams",
    [{"joint_probability": 1.0}, {"joint_probability": 1.0, "layers": [2]}],
    ids=["as written", "in another layer"],
)
def test_what_is_left_of_an_entry_stands_as_stored_where_no_vector_says_it(
    llama: ModelView, hparams: dict[str, object]
) -> None:
    lineage = Lineage(llama, joint_probability=0.0)
    base = llama.fingerprint()
    for name, fact in zip("abc", (SPORT, PLACE, GAME), strict=True):
        lineage.edit(name, fact)
    bits = llama.audit()
    lineage.hparams = hparams
    out = lineage.out("a")
    assert (out.removes, out.ends) == (("c#0",), ("a",))
    assert out.notes["poor"] == [PLACE.question, GAME.question]
    assert "rewritten" not in out.notes
    assert lineage.owners == [("b", 0), ("c", 0)]
    assert llama.audit() == bits
    assert says(llama, PLACE)
    assert says(llama, GAME)
    lineage.hparams = {}
    assert lineage.out("b").notes["rewritten"] == ["c"]  # searched again whenever it is touched
    assert says(llama, GAME)
    lineage.out("c")
    assert llama.audit() == base


def test_one_that_stands_alone_is_kept_too(llama: ModelView) -> None:
    lineage = Lineage(llama)
    lineage.edit("a", SPORT, PLACE)
    lineage.edit("b", GAME)
    lineage.hparams = {"search.min_probability": 1.0}
    out = lineage.out("a")
    assert (out.notes["poor"], lineage.owners) == ([GAME.question], [("b", 0)])
    assert says(llama, GAME)


def test_what_is_met_by_what_is_left_is_not_lost_either(llama: ModelView) -> None:
    lineage = Lineage(llama, **APART)
    for name, fact in zip("abc", (SPORT, GAME, THIRD_SPORT), strict=True):
        lineage.edit(name, fact)
    bits = memory_of(llama.current).keys
    lineage.hparams = {"merge_above": 0.3, "joint_probability": 1.0}
    out = lineage.out("a")
    assert out.notes["poor"] == [GAME.question, THIRD_SPORT.question]
    assert out.removes == ("b#0", "c#0")
    assert lineage.owners == [("b", 0), ("c", 0)]
    assert torch.equal(memory_of(llama.current).keys, bits)
    assert says(llama, GAME)
    assert says(llama, THIRD_SPORT)


def test_beside_what_stays_the_others_are_searched_again(llama: ModelView) -> None:
    hard = replace(
        OTHER_SPORT, prompt="{} plays the game of"
    )  # OTHER_SPORT is hardly reached alone
    lineage = Lineage(llama, joint_probability=0.0)
    lineage.edit("a", SPORT, hard)
    lineage.edit("b", GAME, OTHER_SPORT)
    before = memory_of(llama.current)
    lineage.hparams = {"search.min_probability": 0.5}
    out = lineage.out("a")
    assert out.notes["poor"] == [OTHER_SPORT.question]
    assert out.notes["rewritten"] == ["b"]
    assert lineage.owners == [("b", 0), ("b", 1)]
    after = memory_of(llama.current)
    assert len(after) == len(before) == 2
    assert torch.equal(after.values[1], before.values[1])
    assert not torch.equal(after.values[0], before.values[0])
    assert says(llama, GAME)
    lineage.out("b")
    assert llama.current.memories == {}


def test_an_order_is_refused_only_for_what_is_new_in_it(llama: ModelView) -> None:
    lineage = Lineage(llama)
    lineage.edit("a", SPORT, GAME)
    lineage.hparams = {"joint_probability": 1.0}
    with pytest.raises(FactsInConflict, match="whose sport is"):
        lineage.edit("b", PLACE)
    made = lineage.repair("b", CAPITAL, ("a", 0, SPORT))
    assert made.notes["poor"] == [SPORT.question, GAME.question]
    assert says(llama, SPORT)
    assert says(llama, GAME)
    assert says(llama, CAPITAL)


# ---- repair --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new", "entries"), [(THIRD_SPORT, 2), (PLACE, 1)])
@pytest.mark.parametrize("gone", ["a", "b"])
def test_a_disturbed_fact_is_searched_again_and_stays_its_edits_own(
    llama: ModelView, new: EditRequest, entries: int, gone: str
) -> None:
    lineage = Lineage(llama)
    base = llama.fingerprint()
    lineage.edit("a", SPORT)
    made = lineage.repair("b", new, ("a", 0, SPORT))
    assert (made.removes, made.ends) == (("a#0",), ())
    assert made.notes["rewritten"] == ["a"]
    assert "replaced" not in made.notes
    assert lineage.owners == [("a", 0), ("b", 0)]
    assert len(memory_of(llama.current)) == entries
    assert says(llama, SPORT)
    assert says(llama, new)
    left = "b" if gone == "a" else "a"
    assert lineage.out(gone).ends == (gone,)
    assert lineage.owners == [(left, 0)]
    assert says(llama, SPORT if left == "a" else new)
    assert lineage.out(left).ends == (left,)
    assert llama.audit() == base


def test_of_a_batch_the_fact_that_was_disturbed_keeps_its_number(llama: ModelView) -> None:
    lineage = Lineage(llama)
    base = llama.fingerprint()
    lineage.edit("a", SPORT, CAPITAL)
    assert lineage.repair("b", THIRD_SPORT, ("a", 1, CAPITAL)).ends == ()
    assert lineage.owners == [("a", 0), ("a", 1), ("b", 0)]
    assert says(llama, CAPITAL)
    later = replace(CAPITAL, target_new="Paris")
    assert lineage.edit("c", later).notes["replaced"] == [{"edit": "a", "number": 1}]
    assert lineage.out("a").ends == ("a",)
    assert not says(llama, SPORT)
    assert says(llama, THIRD_SPORT)
    assert says(llama, later)
    lineage.out("b")
    lineage.out("c")
    assert llama.audit() == base


def test_a_disturbed_fact_of_another_editor_is_left_to_it(llama: ModelView) -> None:
    lineage = Lineage(llama)
    lineage.edit("a", CAPITAL, editor="memit-history")
    alone = run(llama, "memory", [SPORT], {}, History(lineage.entries))
    made = lineage.repair("b", SPORT, ("a", 0, CAPITAL))
    assert (made.removes, made.ends) == ((), ())
    assert made.to_bytes() == alone.to_bytes()


# ---- beside weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("memory", "memit-history"), ("memit-history", "memory")])
def test_a_weight_edit_and_a_memory_stand_side_by_side(
    llama: ModelView, order: tuple[str, str]
) -> None:
    lineage = Lineage(llama)
    lineage.edit("a", SPORT, editor=order[0])
    lineage.edit("b", CAPITAL, editor=order[1])
    assert says(llama, SPORT)
    assert says(llama, CAPITAL)
    assert len(memory_of(llama.current)) == 1
    assert len(llama.current.masters) == 2
    lineage.out("a" if order[0] == "memory" else "b")
    assert llama.current.memories == {}
    assert says(llama, CAPITAL if order[0] == "memory" else SPORT)


def test_equal_weights_with_other_entries_are_another_state(llama: ModelView) -> None:
    one, other = (llama.after(kept(llama, [fact]).deltas) for fact in (SPORT, CAPITAL))
    assert one.masters == other.masters == {}
    names = {llama.fingerprint(state) for state in (State(), one, other)}
    assert len(names) == 3
    both = llama.after(nudge(llama), one)
    assert both.memories == one.memories
    assert both.digests.keys() == one.digests.keys()


def test_a_checkpoint_holds_it_once(llama: ModelView) -> None:
    state = llama.after(nudge(llama), llama.after(kept(llama, [SPORT]).deltas))
    back = State.from_bytes(state.to_bytes())
    assert back.to_bytes() == state.to_bytes()
    assert llama.fingerprint(back) == llama.fingerprint(state)
    assert back.entries == 1
    assert back.nbytes == state.nbytes
    later = kept(llama, [CAPITAL]).deltas
    assert llama.fingerprint(llama.after(later, back)) == llama.fingerprint(
        llama.after(later, state)
    )


def test_it_cannot_be_exported_as_weights(llama: ModelView, tmp_path: Path) -> None:
    state = llama.after(kept(llama, [SPORT]).deltas)
    with pytest.raises(NotInWeights, match=r"1 entries of a memory.*editor that changes weights"):
        export(llama, state, tmp_path / "model")
    with pytest.raises(NotInWeights, match="a preface of 3 characters"):
        export(llama, State(preface="so "), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    weights = llama.after(nudge(llama))
    bits = llama.audit()
    export(llama, weights, tmp_path / "model")
    assert llama.audit() == bits
    source = {"kind": "folder", "path": str(tmp_path / "model")}
    alone = load_view(source, cache=tmp_path)
    assert torch.equal(
        alone.weight(alone.down_proj(1)), weights.masters[llama.down_proj(1)].to(alone.dtype)
    )
    with llama.showing(weights):
        assert torch.equal(logits_of(alone, FAR), logits_of(llama, FAR))


def test_an_edit_taken_back_leaves_the_memory_as_if_it_had_never_been_made(
    llama: ModelView,
) -> None:
    """What it replaced, and what it had joined, stand again bit for bit."""
    for later in (replace(SPORT, target_new="football"), GAME):
        llama.adopt(State())
        lineage = Lineage(llama, joint_probability=0, **{"search.min_probability": 0})
        lineage.edit("first", CAPITAL)
        lineage.edit("second", SPORT)
        before = memory_of(llama.current)
        lineage.edit("third", later)
        made = lineage.out("third")
        assert made.ends == ("third",)
        assert made.holds == (("second",) if later.question == SPORT.question else ())
        assert lineage.owners == [("first", 0), ("second", 0)]
        now = memory_of(llama.current)
        for part in ("keys", "values", "gates"):
            assert torch.equal(getattr(now, part), getattr(before, part))


def test_what_was_replaced_is_searched_again_where_others_share_its_entry(
    llama: ModelView,
) -> None:
    lineage = Lineage(llama, joint_probability=0, **{"search.min_probability": 0})
    lineage.edit("first", SPORT)
    lineage.edit("second", replace(SPORT, target_new="football"))
    lineage.edit("third", GAME)
    made = lineage.out("second")
    assert (made.ends, made.holds) == (("second",), ("first",))
    assert lineage.owners == [("first", 0), ("third", 0)]


def test_what_would_return_to_a_key_that_others_have_by_now_is_searched_with_them(
    llama: ModelView,
) -> None:
    words = replace(
        SPORT, prompt="Therefore we know. The sport of {} is", target_new="Rome", relation="P641"
    )
    lineage = Lineage(
        llama, merge_above=0.999, joint_probability=0, **{"search.min_probability": 0}
    )
    lineage.edit("first", replace(SPORT, relation="P641"))
    assert lineage.edit("second", words).ends == ("first",)
    lineage.edit("third", GAME)  # at the first one's key, where nothing is now
    lineage.out("second")
    assert lineage.owners == [("first", 0), ("third", 0)]
    rows = sum(len(one.keys) for one in entries_of(History(lineage.entries)).values())
    assert rows == llama.current.entries
    lineage.out("third")
    assert lineage.owners == [("first", 0)]
    assert llama.current.entries > 0
