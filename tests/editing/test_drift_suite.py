"""Drift: what changed weights and words are compared with base, number by number."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from editing.errors import BadRecord
from editing.evals.catalogue import suite
from editing.evals.run import rows_of, summary_of
from editing.evals.scene import Scene
from editing.hparams import Statistics
from editing.metrics.drift import base_logprobs, measure_drift
from editing.metrics.spectra import energy, moved
from editing.model.state import State
from editing.model.tokens import encode
from editing.model.view import ModelView
from editing.run import finish, under
from editing.stats.moments import ensure_moments

from .conftest import MakeView
from .facts import changed, copied, logits_of, nudge

Json = dict[str, Any]
ONE = suite("drift")
TEXTS = ["The old man said. I like the sea.", "A bridge, a river and a mountain"]


def measured(
    view: ModelView, state: State, texts: list[str] | None = None, **options: Any
) -> tuple[list[Json], Json]:
    chosen = ONE.options_of(options)
    scene = Scene(view=view, options=chosen)
    records = [{"text": text} for text in texts or []]
    rows: list[Json] = []
    for number, case in enumerate(ONE.read(records, chosen)):
        rows += finish(rows_of(ONE, scene, case, number, state))
    return rows, summary_of(ONE, rows, chosen)


def test_what_is_told_of_a_weight_is_what_svd_tells() -> None:
    chance = torch.Generator().manual_seed(0)
    base = torch.randn(40, 60, generator=chance)
    now = base + 0.3 * torch.randn(40, 60, generator=chance)
    keys = torch.randn(60, 90, generator=chance).double()
    moment = keys @ keys.mT
    for old, new in ((base, now), (base.mT, now.mT)):
        found = moved(old, new)
        one, other = (torch.linalg.svd(part.double()) for part in (old, new))
        assert found.base_singular == pytest.approx(one.S[:8].tolist(), rel=1e-6)
        assert found.singular == pytest.approx(other.S[:8].tolist(), rel=1e-6)
        left = (one.U[:, :2].mT @ other.U[:, :2]).square().sum() / 2
        right = (one.Vh[:2] @ other.Vh[:2].mT).square().sum() / 2
        assert found.overlap_left == pytest.approx(float(left), rel=1e-4)
        assert found.overlap_right == pytest.approx(float(right), rel=1e-4)
        assert found.change == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-5)
    root = torch.linalg.cholesky(moment)
    felt = ((now - base).double() @ root).norm() / (base.double() @ root).norm()
    assert moved(base, now, moment).felt == pytest.approx(float(felt), rel=1e-6)


def test_energy_is_that_of_pairs_of_rows_whatever_their_length() -> None:
    rows = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-2.0, 0.0]]).double()
    assert energy(rows) == pytest.approx((2**-0.5 + 0.5 + 2**-0.5) / 3)
    assert energy(torch.cat([rows, rows[:1]])) > 0  # one row twice is no infinity


def test_base_itself_has_not_moved(llama: ModelView) -> None:
    rows, told = measured(llama, State())
    assert told["weights"] == 0
    assert told["values"]["kl"]["value"] == pytest.approx(0, abs=1e-7)
    perplexity = told["values"]["perplexity"]
    assert perplexity["value"] == pytest.approx(perplexity["before"])
    assert told["values"]["change"]["value"] is None
    assert [row["row"] for row in rows if "weights" in row] == ["state"]


def test_a_changed_state_is_told_as_promotion_tells_it(make_view: MakeView) -> None:
    llama = make_view("llama", stats_folder=None)
    before = copied(llama)
    state = llama.after(nudge(llama, size=0.3))
    rows, told = measured(llama, state)
    drift = finish(under(llama, state, measure_drift(llama, state, base_logprobs(llama))))
    values = told["values"]
    assert values["kl"]["value"] == pytest.approx(drift.kl, rel=1e-3)
    assert values["perplexity"]["value"] == pytest.approx(drift.perplexity, rel=1e-4)
    assert values["norm_ratio"]["value"] == pytest.approx(drift.norm_ratio, rel=1e-5)
    assert values["kl"]["n"] == drift.tokens
    assert values["kl"]["low"] <= values["kl"]["value"] <= values["kl"]["high"]
    (weight,) = (row for row in rows if row["row"] == "weight")
    assert weight["weight"] == llama.down_proj(1).removesuffix(".weight")
    assert 0 < weight["overlap_left"] < 1
    assert weight["felt"] is None  # nothing was collected by the usual recipe
    assert changed(llama, before) == set()


def test_what_everyday_keys_feel_is_told_where_they_were_collected(llama: ModelView) -> None:
    base = llama.fingerprint(State())
    finish(ensure_moments(llama, [1], Statistics(), base, None))
    rows, told = measured(llama, llama.after(nudge(llama)))
    (weight,) = (row for row in rows if row["row"] == "weight")
    assert weight["felt"] > 0
    assert told["values"]["felt"]["n_testable"] == 1


def test_given_texts_are_read_to_so_many_tokens(llama: ModelView) -> None:
    state = llama.after(nudge(llama, size=0.3))
    rows, told = measured(llama, state, [*TEXTS, "a"], tokens=6)
    texts = [row for row in rows if row["row"] == "text"]
    assert [row.get("tokens") for row in texts if "tokens" in row] == [5, 5]
    assert told["skipped"] == {"too-short": 1}
    with llama.showing(state):
        logprobs = logits_of(llama, TEXTS[0])[:5].log_softmax(-1)
    ids = encode(llama.tokenizer, TEXTS[0])[:6]
    nll = -sum(float(logprobs[at, ids[at + 1]]) for at in range(5)) / 5
    mine = next(row for row in texts if row["text"].startswith("The old"))
    assert mine["nll"] == pytest.approx(nll, abs=1e-4)


def test_a_preface_moves_words_and_no_weight(llama: ModelView) -> None:
    rows, told = measured(llama, replace(llama.current, preface="I like tennis. "))
    assert told["values"]["kl"]["value"] > 0
    assert told["weights"] == 0
    assert next(row for row in rows if row["row"] == "state")["preface"] == 15


def test_a_record_without_text_is_named() -> None:
    with pytest.raises(BadRecord, match="Record 1"):
        ONE.read([{"text": "x"}, {"text": " "}], ONE.options_of({}))
