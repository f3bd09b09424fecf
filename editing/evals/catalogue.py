"""The suites, as a table. Read by the API, the docs and the tests. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editing.entry import loaded
from editing.errors import EmptyField, UnknownSuite
from editing.knobs import filled, schema_of

from .options import (
    CorrelationOptions,
    CounterFactOptions,
    DriftOptions,
    EfficacyOptions,
    FailuresOptions,
    GradsimOptions,
    KeysOptions,
    PerturbationOptions,
    RelationOptions,
    RippleOptions,
    TracingOptions,
    ZsreOptions,
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One kind of measurement, and where its code is ("module:function", imported when used).

    cases      (records, options) -> list of cases; torch-free, refuses bad records by number
    measure    (scene, case) -> generator of Steps that returns the rows of this case
    summarise  (rows, options) -> {"values": {name: Value as JSON}, ...}
    """

    name: str
    title: str
    source: str  # the paper and its section
    summary: str
    options: type  # a frozen dataclass of knobs (editing.hparams.blocks)
    cases: str
    measure: str
    summarise: str
    datasets: tuple[str, ...]  # names in editing.datasets.catalogue that it can read, its own first
    edits: bool = False  # writes with an editor, in states on the side
    may_edit: bool = False  # does so only where an editor is named
    needs_records: bool = True  # False: the model alone is enough
    plots: tuple[str, ...] = ()  # names in editing.pictures

    def options_of(self, given: Mapping[str, object]) -> Any:  # noqa: ANN401 - an instance of `options`
        """Raises UnknownHparam, InvalidHparam or NonFiniteValue."""
        return filled(self.options, given, of=self.name)

    def read(self, records: Sequence[Json], options: Any) -> list[Any]:  # noqa: ANN401
        """What there is to measure. Raises BadRequest for a record that cannot be read."""
        if not records and self.needs_records:
            raise EmptyField(field="records")
        return loaded(self.cases)(records, options)

    @property
    def schema(self) -> Json:
        """The options as a JSON schema."""
        return schema_of(self.options)


def suite(name: str) -> Suite:
    """Find a suite by name. Raises UnknownSuite."""
    try:
        return SUITES[name]
    except KeyError:
        raise UnknownSuite(name, known=list(SUITES)) from None


SUITES: Mapping[str, Suite] = {
    one.name: one
    for one in (
        Suite(
            name="tracing",
            title="Causal tracing",
            source="2202.05262 section 2.1; relations as in 2311.09053",
            summary="Where in the model an answer comes back when its subject was made noise.",
            options=TracingOptions,
            cases="editing.datasets.known_facts:tracing_cases",
            measure="editing.evals.tracing:measure",
            summarise="editing.evals.tracing:summarise",
            datasets=("known-facts",),
            plots=("tracing", "tracing-roles"),
        ),
        Suite(
            name="ripple",
            title="Ripples of an edit",
            source="2307.12976 sections 3 to 5",
            summary="What follows from each edit, and what must stay: RippleEdits' six criteria.",
            options=RippleOptions,
            cases="editing.datasets.ripple:cases",
            measure="editing.evals.ripple:measure",
            summarise="editing.evals.ripple_summary:summarise",
            datasets=("ripple-popular", "ripple-recent", "ripple-random", "knowedit-ripple"),
            edits=True,
            plots=("ripple",),
        ),
        Suite(
            name="counterfact",
            title="CounterFact",
            source="2202.05262 section 3.3",
            summary="Efficacy, paraphrase, neighborhood, fluency and consistency of edits.",
            options=CounterFactOptions,
            cases="editing.datasets.counterfact:cases",
            measure="editing.evals.counterfact:measure",
            summarise="editing.evals.counterfact:summarise",
            datasets=("counterfact", "counterfact-flat"),
            edits=True,
        ),
        Suite(
            name="zsre",
            title="zsRE",
            source="2110.11309 section 5; 2210.07229 section 5",
            summary="Token accuracy of questions, of rephrases, and of what must stay.",
            options=ZsreOptions,
            cases="editing.datasets.zsre:cases",
            measure="editing.evals.zsre:measure",
            summarise="editing.evals.zsre:summarise",
            datasets=("zsre",),
            edits=True,
        ),
        Suite(
            name="efficacy",
            title="Edit requests, before and after",
            source="2202.05262 section 3.3",
            summary="How your own requests are answered: as it is, or before and after an edit.",
            options=EfficacyOptions,
            cases="editing.datasets.requests:cases",
            measure="editing.evals.efficacy:measure",
            summarise="editing.evals.efficacy:summarise",
            datasets=("counterfact", "counterfact-flat"),
            may_edit=True,
        ),
        Suite(
            name="perturbation",
            title="Perturbation by related edits",
            source="2502.06868 sections 4 and 5",
            summary="What edits of one subject do to each other, against edits of several.",
            options=PerturbationOptions,
            cases="editing.datasets.s2rke:cases",
            measure="editing.evals.perturbation:measure",
            summarise="editing.evals.perturbation_summary:summarise",
            datasets=("relations", "s2rke", "counterfact", "counterfact-flat"),
            edits=True,
            plots=("sd", "retention"),
        ),
        Suite(
            name="gradsim",
            title="GradSim of facts with facts",
            source="2407.12828 section 3",
            summary="How alike the gradients of facts are, all with all, by part of the model.",
            options=GradsimOptions,
            cases="editing.datasets.facts:gram_cases",
            measure="editing.evals.gradsim:measure",
            summarise="editing.evals.gradsim_summary:summarise",
            datasets=("counterfact", "counterfact-flat", "known-facts", "knowedit-ripple", "zsre"),
            plots=("gram",),
        ),
        Suite(
            name="correlation",
            title="GradSim against what an edit moves",
            source="2407.12828 sections 4 and 5",
            summary="How well GradSim, and cheaper measures, foretell the ripples of edits.",
            options=CorrelationOptions,
            cases="editing.datasets.ripple:cases",
            measure="editing.evals.correlation:measure",
            summarise="editing.evals.correlation_summary:summarise",
            datasets=("ripple-popular", "ripple-recent", "ripple-random", "knowedit-ripple"),
            edits=True,
            plots=("gain",),
        ),
        Suite(
            name="failures",
            title="Where GradSim misleads",
            source="2407.12828 section 6",
            summary="Negations, wrong answers to ripple queries, and the fact in other languages.",
            options=FailuresOptions,
            cases="editing.datasets.failures:cases",
            measure="editing.evals.failures:measure",
            summarise="editing.evals.failures_summary:summarise",
            datasets=("counterfact", "knowedit-ripple", "ripple-popular"),
            edits=True,
        ),
        Suite(
            name="relation",
            title="Relations from both ends",
            source="2311.09053 section 4",
            summary="Whether an edit of the relation moves the object, and the other way round.",
            options=RelationOptions,
            cases="editing.datasets.relation_forms:relation_cases",
            measure="editing.evals.relation:measure",
            summarise="editing.evals.relation:summarise",
            datasets=("counterfact",),
            edits=True,
        ),
        Suite(
            name="keys",
            title="Keys of live edits",
            source="2502.06868 section 5",
            summary="How near live edits' keys lie, and which of them a new edit would disturb.",
            options=KeysOptions,
            cases="editing.datasets.live:keys_cases",
            measure="editing.evals.keys:measure",
            summarise="editing.evals.keys:summarise",
            datasets=(),
            needs_records=False,
            plots=("keys",),
        ),
        Suite(
            name="drift",
            title="Drift from base",
            source="2601.11042 on spectra; 2510.01172 on energy",
            summary="Norms and spectra of the changed weights, KL and perplexity on neutral text.",
            options=DriftOptions,
            cases="editing.datasets.live:drift_cases",
            measure="editing.evals.drift:measure",
            summarise="editing.evals.drift:summarise",
            datasets=(),
            needs_records=False,
            plots=("drift",),
        ),
    )
}
