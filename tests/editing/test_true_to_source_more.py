"""The other closed forms: each one's change is its paper's formula, stated densely in float64."""
# ruff: noqa: N806 - the notation of the papers

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editing.delta import LowRank
from editing.editors.band import weight_by_scale
from editing.editors.prune import restrained
from editing.editors.rect import most_changed
from editing.errors import InvalidHparam, NullSpaceTooSmall
from editing.history import History
from editing.knobs import resolve
from editing.model.state import State
from editing.model.tokens import place
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.stats.nullspace import null_basis
from editing.stats.store import SiteKind
from editing.tuned import ModelFacts

from . import plain
from .conftest import MakeView
from .facts import CAPITAL, OTHER_SPORT, SPORT, planned, run
from .test_true_to_source import QUICK, close, rome_parts, searched

FACTS = [SPORT, CAPITAL]
TWO = {**QUICK, "contexts.prefixes": 2}


def live(*outcomes: Outcome) -> History:
    """A lineage of these outcomes."""
    return History([(str(n), lambda one=one: one) for n, one in enumerate(outcomes)])


def after_all(view: ModelView, outcomes: Sequence[Outcome]) -> State:
    state = view.current
    for outcome in outcomes:
        state = view.after(outcome.deltas, state)
    return state


def one_layer(
    view: ModelView, facts: Sequence[EditRequest], knobs: dict[str, object]
) -> tuple[Tensor, Tensor, Tensor]:
    """K, R and C of the one edited layer, read plainly."""
    hparams = planned(view, "memit", knobs).hparams
    (layer,) = hparams.layers
    prefixes = view.stats.prefixes(hparams.contexts)
    K, _, _ = plain.columns(view, facts, prefixes, layer, layer)
    d = torch.stack([searched(view, fact, hparams) for fact in facts], dim=1)
    R = d.repeat_interleave(len(prefixes) + 1, dim=1)
    return K, R, view.stats.second_moment(layer, hparams.statistics)


class TestRomesLegacyKeys:
    def test_the_mean_key_gives_the_direction_and_the_bare_one_the_divisor(
        self, llama: ModelView
    ) -> None:
        knobs = {**QUICK, "legacy_keys": True, "contexts.prefixes": 4, "bare_weight": 0.2}
        hparams = planned(llama, "rome", knobs).hparams
        K, d, C = rome_parts(llama, hparams)
        u = torch.linalg.inv(C) @ K.mean(1)
        wanted = torch.outer(d, u) / (K[:, 0] @ u)
        (delta,) = run(llama, "rome", [SPORT], knobs).deltas.values()
        assert isinstance(delta, LowRank)
        assert close(delta, wanted)


class TestEmmet:
    @pytest.mark.parametrize("damping", [0.0, 0.1])
    def test_it_writes_nearly_what_every_key_is_asked(
        self, llama: ModelView, damping: float
    ) -> None:
        knobs = {**TWO, "layers": [2], "second_moment_weight": 3.0}
        K, R, C = one_layer(llama, FACTS, knobs)
        A = 3.0 * C
        inner = damping * torch.eye(K.shape[1]) + K.T @ torch.linalg.inv(A) @ K
        wanted = R @ torch.linalg.inv(inner) @ K.T @ torch.linalg.inv(A)
        (delta,) = run(llama, "emmet", FACTS, {**knobs, "damping": damping}).changes.values()
        assert (delta.matrix() - wanted).norm() <= 2e-3 * wanted.norm()
        if not damping:  # equality at every key
            assert (delta.at(K) - R).norm() <= 2e-3 * R.norm()


class TestAlphaEdit:
    def test_it_is_the_published_solve_in_the_null_space(self, view: ModelView) -> None:
        knobs = {**TWO, "layers": [2], "null_mass": 0.3, "damping": 0.5}
        earlier = run(view, "alphaedit", [OTHER_SPORT], knobs)
        view.adopt(view.after(earlier.deltas))
        outcome = run(view, "alphaedit", FACTS, knobs, live(earlier))
        if view.layout.post_norm:  # R before a norm is judged with MEMIT
            return
        K, R, C = one_layer(view, FACTS, {**TWO, "layers": [2]})
        name = view.down_proj(2)
        K_p = earlier.written[name].keys.double()
        U = null_basis(C, 0.3)
        P = U @ U.T
        eye = torch.eye(len(C), dtype=C.dtype)
        wanted = R @ K.T @ P @ torch.linalg.inv(K_p @ K_p.T @ P + K @ K.T @ P + 0.5 * eye)
        assert (outcome.changes[name].matrix() - wanted).norm() <= 2e-3 * wanted.norm()
        assert outcome.notes["null_rank"] == {name: U.shape[1]}

    def test_everyday_keys_outside_the_null_space_do_not_feel_it(self, llama: ModelView) -> None:
        outcome = run(llama, "alphaedit", FACTS, {**TWO, "layers": [2], "null_mass": 0.2})
        recipe = planned(llama, "alphaedit").hparams.statistics
        C = llama.stats.second_moment(2, recipe)
        _, vectors = torch.linalg.eigh(C)
        loud = vectors[:, null_basis(C, 0.2).shape[1] :]
        (delta,) = outcome.changes.values()
        assert delta.at(loud).norm() <= 1e-5 * delta.norm()

    def test_the_basis_holds_its_share_of_the_trace_and_no_more(self, llama: ModelView) -> None:
        recipe = planned(llama, "alphaedit", {"layers": [2]}).hparams.statistics
        C = llama.stats.second_moment(2, recipe)
        for mass in (0.01, 0.1, 0.5):
            U = null_basis(C, mass)
            share = float((U.T @ C @ U).trace() / C.trace())
            wider = torch.linalg.eigh(C).eigenvalues[: U.shape[1] + 1].sum() / C.trace()
            assert share <= mass < float(wider)
        assert null_basis(C, 0.1, threshold=float(C.trace())).shape[1] == len(C)

    def test_a_null_space_without_room_for_the_facts_is_refused(self, llama: ModelView) -> None:
        bits = llama.audit()
        with pytest.raises(NullSpaceTooSmall, match=r"2 facts need.*Raise null_mass") as raised:
            run(llama, "alphaedit", FACTS, {**TWO, "layers": [2], "null_mass": 1e-9})
        assert raised.value.fields["rank"] == 0
        assert llama.audit() == bits


def plain_search_of_both(
    view: ModelView,
    request: EditRequest,
    layer: int,
    knobs: dict[str, float],
    kinds: Sequence[SiteKind],
    *,
    prompt_last: bool = False,
) -> Tensor:
    """Deltas [kinds, d_v] at the modules of one layer for a bare prompt, as a plain loop."""
    text = plain.continued(
        view.tokenizer, place(view.tokenizer, request, "").text, request.target_new
    )
    at = text.start - 1 if prompt_last else place(view.tokenizer, request, "").subject
    essence = plain.place_text(view.tokenizer, "{} is a", request.subject)
    essence_at = len(essence.ids) - 1 if prompt_last else essence.subject
    modules = [view.module(view.written_at(layer, kind)) for kind in kinds]

    def answers(ids: Sequence[int], where: int, moves: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen: list[Tensor] = []

        def adder(move: Tensor):  # noqa: ANN202 - a hook
            def hook(_: object, __: object, out: Tensor) -> Tensor:
                rows = out.view(1, len(ids), -1).clone()
                seen.append(rows[0, where].detach())
                rows[0, where] = rows[0, where] + move
                return rows.view(out.shape)

            return hook

        hooks = [
            m.register_forward_hook(adder(move)) for m, move in zip(modules, moves, strict=True)
        ]
        logits = view.model(input_ids=torch.tensor([list(ids)])).logits[0]
        for hook in hooks:
            hook.remove()
        return logits, seen

    moves = torch.zeros(len(kinds), view.facts.d_model, requires_grad=True)
    _, seen = answers(text.ids, at, moves.detach())
    scale = torch.stack(seen).norm(dim=1)
    plainly, _ = answers(essence.ids, essence_at, moves.detach())
    p_0 = plainly[-1].log_softmax(-1).detach()
    adam = torch.optim.Adam([moves], lr=knobs["lr"])
    for _ in range(int(knobs["steps"]) - 1):  # the last step only measures
        logits, _ = answers(text.ids, at, moves)
        rows = logits[text.start - 1 : len(text.ids) - 1].log_softmax(-1)
        nll = -rows[torch.arange(len(text.targets)), torch.tensor(text.targets)].mean()
        moved, _ = answers(essence.ids, essence_at, moves)
        p = moved[-1].log_softmax(-1)
        kl = (p.exp() * (p - p_0)).sum()
        loss = nll + 0.0625 * kl + 1e-3 * (moves.norm(dim=1) / scale**2).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            limit = knobs["max_norm"] * scale
            moves *= (limit / moves.norm(dim=1)).clamp(max=1)[:, None]
    return moves.detach().double()


GENTLE = {
    "contexts.prefixes": 0,
    "search.steps": 6,
    "search.lr": 0.1,
    "search.max_norm": 2.0,
    "search.min_probability": 0,
    "search.stop_loss": 0,
    "search.rank_one_steps": 0,
}
LOOP = {"steps": 6, "lr": 0.1, "max_norm": 2.0}


@pytest.mark.parametrize("layout", ["gpt2", "llama", "gptj"], indirect=False)
class TestPmet:
    def test_what_the_mlp_lacks_is_spread_by_the_root_of_the_layers_left(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        outcome = run(view, "pmet", [SPORT], {**GENTLE, "layers": [1, 2]})
        d = plain_search_of_both(view, SPORT, 2, LOOP, ("attention", "mlp"))[1]
        text = place(view.tokenizer, SPORT, "").text
        at = place(view.tokenizer, SPORT, "").subject
        _, v_0, _ = plain.read(view, text, at, 2, 2)
        shown: dict[str, LowRank] = {}
        for left, layer in ((2, 1), (1, 2)):
            with view.overlaid(shown):
                k, _, _ = plain.read(view, text, at, layer, layer)
                _, v, _ = plain.read(view, text, at, 2, 2)
            R, K = ((v_0 + d - v) / left**0.5)[:, None], k[:, None]
            recipe = planned(view, "pmet", {**GENTLE, "layers": [1, 2]}).hparams.statistics
            A = weight_by_scale(view.facts.d_key) * view.stats.second_moment(layer, recipe)
            wanted = R @ K.T @ torch.linalg.inv(A + K @ K.T)
            name = view.down_proj(layer)
            assert (outcome.changes[name].matrix() - wanted).norm() <= 5e-3 * wanted.norm()
            shown[name] = LowRank.of(wanted, torch.eye(len(k)).double())

    def test_both_writes_the_attention_of_every_layer_too(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        outcome = run(view, "pmet", [SPORT], {**GENTLE, "layers": [1, 2], "write": "both"})
        assert set(outcome.changes) == {
            view.written_at(n, k) for n in (1, 2) for k in ("mlp", "attention")
        }  # type: ignore[arg-type]


class TestAttention:
    @pytest.mark.parametrize("sites", ["mlp", "attention", "both"])
    def test_each_write_takes_its_share_of_what_is_missing_at_the_prompts_end(
        self, llama: ModelView, sites: str
    ) -> None:
        view = llama
        knobs = {**GENTLE, "layers": [1, 2], "sites": sites}
        outcome = run(view, "attention", [SPORT], knobs)
        kinds: tuple[SiteKind, ...] = ("attention", "mlp") if sites == "both" else (sites,)  # type: ignore[assignment]
        moves = plain_search_of_both(view, SPORT, 2, LOOP, kinds, prompt_last=True)
        ids = view.tokenizer(SPORT.question)["input_ids"]
        spots = [(layer, kind) for layer in (1, 2) for kind in kinds]
        goal = block_output(
            view, ids, 2, {view.written_at(2, k): m for k, m in zip(kinds, moves, strict=True)}
        )
        recipe = planned(view, "attention", knobs).hparams.statistics
        shown: dict[str, LowRank] = {}
        for number, (layer, kind) in enumerate(spots):
            name = view.written_at(layer, kind)
            with view.overlaid(shown):
                H = block_output(view, ids, 2, {})
                K = key_at_end(view, ids, name)[:, None]
            R = ((goal - H) / (len(spots) - number))[:, None]
            A = weight_by_scale(K.shape[0]) * view.stats.second_moment(layer, recipe, kind)
            wanted = R @ K.T @ torch.linalg.inv(A + K @ K.T)
            assert (outcome.changes[name].matrix() - wanted).norm() <= 1e-2 * wanted.norm()
            shown[name] = LowRank.of(wanted, torch.eye(len(K)).double())

    def test_a_relation_edit_makes_the_model_say_the_relation(self, llama: ModelView) -> None:
        request = replace(RELATION, delete_prompt=None)
        outcome = run(llama, "attention", [request], {"layers": [1, 3], "contexts.prefixes": 1})
        with llama.overlaid(outcome.deltas):
            assert plain_probability(llama, request.question, "capital") > 0.5

    def test_two_prompts_are_one_fact_at_the_subject_and_two_at_their_ends(
        self, llama: ModelView
    ) -> None:
        knobs = {**GENTLE, "layers": [2], "search.steps": 1}
        at_subject = run(llama, "memit", [RELATION], knobs)
        assert at_subject.notes["search_steps"] == [1]
        written = at_subject.written[llama.down_proj(2)]
        assert torch.allclose(written.keys[:, 0], written.keys[:, 1], atol=1e-5)
        assert torch.allclose(written.targets[:, 0], written.targets[:, 1], atol=1e-4)
        at_end = run(llama, "attention", [RELATION], knobs)
        assert at_end.notes["search_steps"] == [1, 1]
        keys = at_end.written[llama.down_proj(2)].keys
        assert not torch.allclose(keys[:, 0], keys[:, 1], rtol=0.1)


RELATION = EditRequest.from_dict(
    {
        "perspective": "relation",
        "subject": "Italy",
        "object": "Madrid",
        "relation_text": "capital",
        "add_prompt": "The relation between {} and Madrid is",
        "delete_prompt": "The relation between {} and Rome is",
    }
)


@torch.no_grad()
def plain_probability(view: ModelView, question: str, target: str) -> float:
    text = plain.continued(view.tokenizer, question, target)
    rows = view.model(input_ids=torch.tensor([text.ids])).logits[0]
    logprobs = rows[text.start - 1 : len(text.ids) - 1].log_softmax(-1)
    return float(logprobs[torch.arange(len(text.targets)), torch.tensor(text.targets)].mean().exp())


@torch.no_grad()
def block_output(
    view: ModelView, ids: Sequence[int], layer: int, moves: dict[str, Tensor]
) -> Tensor:
    """What a block answers at the last token with its modules' outputs moved there."""
    found: list[Tensor] = []

    def adder(move: Tensor):  # noqa: ANN202 - a hook
        def hook(_: object, __: object, out: Tensor) -> Tensor:
            moved = out.clone()
            moved[0, -1] += move.to(out.dtype)
            return moved

        return hook

    hooks = [view.module(name).register_forward_hook(adder(move)) for name, move in moves.items()]
    hooks.append(
        view.blocks[layer].register_forward_hook(
            lambda _, __, out: found.append((out[0] if isinstance(out, tuple) else out)[0, -1])
        )
    )
    view.model(input_ids=torch.tensor([list(ids)]))
    for hook in hooks:
        hook.remove()
    return found[0].double()


@torch.no_grad()
def key_at_end(view: ModelView, ids: Sequence[int], name: str) -> Tensor:
    found: list[Tensor] = []
    hook = view.module(name).register_forward_pre_hook(lambda _, args: found.append(args[0][0, -1]))
    view.model(input_ids=torch.tensor([list(ids)]))
    hook.remove()
    return found[0].double()


class TestRect:
    def test_it_keeps_the_entries_that_change_most(self) -> None:
        chance = torch.Generator().manual_seed(0)
        D = torch.randn(6, 5, generator=chance).double()
        W = torch.randn(6, 5, generator=chance).double()
        kept = most_changed(D, W, 0.4)
        ranked = sorted(
            ((abs(float(D[i, j] / W[i, j])), i, j) for i in range(6) for j in range(5)),
            reverse=True,
        )
        chosen = {(i, j) for _, i, j in ranked[:12]}
        for i in range(6):
            for j in range(5):
                assert float(kept[i, j]) == (float(D[i, j]) if (i, j) in chosen else 0.0)

    def test_a_weight_of_zero_is_changed_first_and_no_change_of_it_never(self) -> None:
        D, W = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 10.0]])
        assert most_changed(D, W, 1 / 3).tolist() == [[1.0, 0.0, 0.0]]

    def test_as_published_each_edit_is_memits_and_cut(self, llama: ModelView) -> None:
        knobs = {**TWO, "layers": [2]}
        whole = run(llama, "memit", FACTS, knobs).changes[llama.down_proj(2)].matrix()
        cut = run(llama, "rect", FACTS, {**knobs, "compensate": False})
        wanted = most_changed(whole.double(), llama.master(llama.down_proj(2)).double(), 0.4)
        assert torch.allclose(cut.changes[llama.down_proj(2)].matrix().double(), wanted, atol=1e-6)


class TestPrune:
    def test_large_singular_values_grow_by_their_logarithm(self) -> None:
        chance = torch.Generator().manual_seed(0)
        S = torch.randn(6, 9, generator=chance).double()
        s = torch.linalg.svdvals(S)
        limit = float(s[2]) + 1e-6  # the two largest are above it
        found, count = restrained(S, limit, 2.0)
        assert count == 2
        held = torch.where(s > limit, (s / limit).log() / torch.log(torch.tensor(2.0)) + limit, s)
        assert torch.allclose(torch.linalg.svdvals(found), held.sort(descending=True).values)
        U, _, Vh = torch.linalg.svd(S, full_matrices=False)
        assert torch.allclose(found, U @ torch.diag(held) @ Vh)
        assert restrained(S, float(s[0]) + 1, 2.0) == (S, 0)

    def test_as_published_it_restrains_the_sum_of_all_changes(self, llama: ModelView) -> None:
        knobs = {**TWO, "layers": [2], "search.max_norm": 50.0, "search.lr": 2.0}
        name, made, raw = llama.down_proj(2), list[Outcome](), list[Tensor]()
        for fact in (SPORT, CAPITAL, OTHER_SPORT):
            raw.append(run(llama, "memit", [fact], knobs).changes[name].matrix().double())
            made.append(run(llama, "prune", [fact], {**knobs, "compensate": False}, live(*made)))
            llama.adopt(llama.after(made[-1].deltas))
        limit = float(torch.linalg.matrix_norm(llama.master(name, State()).double(), ord=2))
        wanted, count = restrained(sum(raw), limit, 2.718281828459045)  # type: ignore[arg-type]
        assert count  # or there was nothing to see
        total = sum(one.changes[name].matrix().double() for one in made)
        assert isinstance(total, Tensor)
        assert (total - wanted).norm() <= 2e-3 * wanted.norm()


@pytest.mark.parametrize("editor", ["rect", "prune"])
def test_what_was_cut_is_made_up_for_by_the_next_edit(llama: ModelView, editor: str) -> None:
    """W - E A^-1 is the solution of one joint batch, for the keys and targets as they were."""
    view, name = llama, llama.down_proj(2)
    knobs = {**TWO, "layers": [2], "second_moment_weight": 2.0}
    if editor == "prune":
        knobs |= {"search.max_norm": 50.0, "search.lr": 2.0}
    made = list[Outcome]()
    foreign = {**TWO, "layers": [2]}
    for number, fact in enumerate((SPORT, CAPITAL, OTHER_SPORT)):
        made.append(run(view, editor, [fact], knobs, live(*made)))
        view.adopt(view.after(made[-1].deltas))
        if not number:  # another editor's change stands between ours
            made.append(run(view, "rome", [OTHER_SPORT], foreign))
            view.adopt(view.after(made[-1].deltas))
    recipe = planned(view, editor, knobs).hparams.statistics
    C = view.stats.second_moment(2, recipe)
    F = made[1].changes[name].matrix().double()
    W_0 = view.master(name, State()).double() + F
    A, B = 2.0 * C, 2.0 * W_0 @ C  # W A = B is what the joint solution solves
    bias = getattr(view.module(name), "bias", None)
    assert bias is None
    for number, one in enumerate(made):
        if number == 1:
            continue  # what another editor wrote is no part of the solution
        pair = one.written[name]
        K, V = pair.keys.double(), pair.targets.double()
        if number < 1:
            V = V + F @ K  # moved through what another editor changed later
        A, B = A + K @ K.T, B + V @ K.T
    joint = B @ torch.linalg.inv(A)
    W = view.master(name).double()
    K, V = made[-1].written[name].keys.double(), made[-1].written[name].targets.double()
    E = W @ A - B
    assert (W - E @ torch.linalg.inv(A) - joint).norm() <= 1e-9 * joint.norm()
    # The error is one edit's, and not the sum of all: what is lost is what the last one lost.
    last = made[-1].changes[name].matrix().double()
    before = view.master(name).double() - last
    D = joint - before
    assert (D - last).norm() > 1e-3 * D.norm()  # something was cut
    if editor == "rect":
        cut = most_changed(D, before, 0.4)
        assert (cut - last).norm() <= 2e-2 * last.norm()


def test_where_an_edit_is_dropped_the_error_is_folded_anew_of_the_rest(llama: ModelView) -> None:
    """The next edit makes up for what the others lack of what they answer without the dropped."""
    view, name = llama, llama.down_proj(2)
    knobs = {**TWO, "layers": [2], "second_moment_weight": 2.0}
    facts = (SPORT, CAPITAL, OTHER_SPORT)
    made, history = list[Outcome](), History.empty()
    for fact in facts:
        made.append(run(view, "rect", [fact], knobs, history))
        view.adopt(view.after(made[-1].deltas))
        history = History(live(*made).entries, history.folds)  # folds stay warm, as a host's do
    entries = [history.entries[0], history.entries[2]]
    view.adopt(after_all_from_base(view, (made[0], made[2])))
    before = view.master(name).double()
    last = run(view, "rect", [CAPITAL], knobs, History(entries, history.folds))
    afresh = run(view, "rect", [CAPITAL], knobs, History(entries))
    assert torch.equal(last.changes[name].matrix(), afresh.changes[name].matrix())
    C = view.stats.second_moment(2, planned(view, "rect", knobs).hparams.statistics)
    A, B = 2.0 * C, 2.0 * view.master(name, State()).double() @ C
    gone = made[1].changes[name]
    for number, one in enumerate((made[0], made[2], last)):
        pair = one.written[name]
        K, V = pair.keys.double(), pair.targets.double()
        V = V - gone.at(pair.keys) if number == 1 else V  # written where the dropped one stood
        A, B = A + K @ K.T, B + V @ K.T
    D = B @ torch.linalg.inv(A) - before
    cut = most_changed(D, before, 0.4)
    assert (cut - last.changes[name].matrix().double()).norm() <= 2e-2 * cut.norm()


def after_all_from_base(view: ModelView, outcomes: Sequence[Outcome]) -> State:
    state = State()
    for outcome in outcomes:
        state = view.after(outcome.deltas, state)
    return state


class TestKeySites:
    def test_at_the_prompts_end_another_key_is_written_in_later_layers(
        self, view: ModelView
    ) -> None:
        facts = ModelFacts("llama", 32, 4096, 11008)
        late = resolve("memit", {"key_site": "prompt_last"}, facts)
        assert late.layers == late.late_layers == (15, 16, 17, 18, 19)
        assert resolve("rome", {"key_site": "dual"}, facts).late_layers == (19,)
        knobs = {**TWO, "layers": [2], "key_site": "prompt_last"}
        outcome = run(view, "memit", [SPORT], knobs)
        written = outcome.written[view.down_proj(2)].keys.double()
        keys = plain.keys_of(view, SPORT.question, 2)
        assert torch.allclose(written[:, 0], keys[-1], atol=1e-4 * float(keys[-1].norm()))
        subject = place(view.tokenizer, SPORT, "").subject
        assert not torch.allclose(written[:, 0], keys[subject], rtol=0.1)

    @pytest.mark.parametrize("editor", ["rome", "r-rome", "emmet", "memit", "pmet"])
    def test_dual_writes_half_at_the_subject_and_the_rest_at_the_end(
        self, llama: ModelView, editor: str
    ) -> None:
        single = editor in {"rome", "r-rome", "emmet"}
        layers = [1] if single else [0, 1]
        knobs = {"layers": layers, "late_layers": [2], "key_site": "dual", "contexts.prefixes": 2}
        outcome = run(llama, editor, [SPORT], knobs)
        assert set(outcome.changes) == {llama.down_proj(n) for n in (*layers, 2)}
        alone = run(llama, editor, [SPORT], {"layers": layers, "contexts.prefixes": 2})
        first = llama.down_proj(layers[0])
        half = outcome.changes[first].norm() / alone.changes[first].norm()
        assert half == pytest.approx(0.5, abs=0.05)
        with llama.overlaid(outcome.deltas):
            assert plain_probability(llama, SPORT.question, SPORT.target_new) > 0.5

    def test_layers_that_the_model_lacks_are_refused(self, llama: ModelView) -> None:
        with pytest.raises(InvalidHparam, match="late_layers"):
            planned(llama, "memit", {"key_site": "dual", "late_layers": [4]})


SAME_SUBJECT = [
    EditRequest(subject="Italy", prompt="{} and the sea: the capital is", target_new="Madrid"),
    EditRequest(subject="Italy", prompt="{} plays the sport of", target_new="tennis"),
]


class TestMerging:
    def test_facts_of_one_subject_with_one_key_are_both_written(self, llama: ModelView) -> None:
        apart = run(llama, "memit", SAME_SUBJECT, {"layers": [1], "merge_above": None})
        merged = run(llama, "memit", SAME_SUBJECT, {"layers": [1]})
        name = llama.down_proj(1)
        keys = apart.written[name].keys
        half = keys.shape[1] // 2
        assert torch.allclose(keys[:, 0], keys[:, half], atol=1e-5)  # one key, two values
        assert "merged" not in apart.notes
        assert merged.notes["merged"] == [[0, 1]]

        def told(outcome: Outcome) -> list[float]:
            with llama.overlaid(outcome.deltas):
                return [plain_probability(llama, r.question, r.target_new) for r in SAME_SUBJECT]

        assert min(told(merged)) > 2 * min(told(apart))

    def test_facts_of_unlike_keys_are_not_merged_and_nothing_changes(
        self, llama: ModelView
    ) -> None:
        one = run(llama, "memit", FACTS, {"layers": [1]})
        other = run(llama, "memit", FACTS, {"layers": [1], "merge_above": None})
        assert one.to_bytes() == other.to_bytes()

    def test_paraphrases_are_learned_in_only_when_asked_for(self, llama: ModelView) -> None:
        without = run(llama, "memit", [SPORT], {"layers": [1], "contexts.prefixes": 1})
        given = {"layers": [1], "contexts.prefixes": 1, "contexts.paraphrases": True}
        name = llama.down_proj(1)
        columns = [run(llama, "memit", [SPORT], k).written[name].keys.shape[1] for k in (given,)]
        assert without.written[name].keys.shape[1] == 2
        assert columns == [3]
