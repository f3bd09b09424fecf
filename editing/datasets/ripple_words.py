"""What the three forms of ripple records share: names of criteria, answers, what is left out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from editing.errors import BadRequest
from editing.request import EditRequest

from .ripple_types import CRITERIA, REASONING, UNNAMED, RippleTest, Skipped

_FOREIGN = {
    "relation_specifity": "relation_specificity",  # as RippleEdits' README spells it
    "forgetfulness": "preservation",
}
_KNOWN = {*CRITERIA, REASONING, UNNAMED}


def criterion_named(text: str) -> str:
    """Our name of a criterion, in whatever spelling. Raises BadRequest."""
    name = "_".join(text.strip().lower().replace("-", " ").replace("_", " ").split())
    name = _FOREIGN.get(name, name)
    if name not in _KNOWN:
        known = ", ".join((*CRITERIA, REASONING))
        raise BadRequest(f"there is no criterion {text!r}; known: {known}.", criterion=text)
    return name


def answer_groups(given: object) -> tuple[tuple[str, ...], ...]:
    """Groups of aliases from a text, a list of aliases, or a list of groups; empty ones left out.

    Raises BadRequest for anything else.
    """
    if isinstance(given, str):
        given = [[given]]
    if not isinstance(given, list | tuple):
        raise BadRequest(f"answers are a text or a list, not {given!r}.")
    items = cast("Sequence[object]", given)
    if items and all(isinstance(item, str) for item in items):
        items = [items]
    groups = [_group(item) for item in items]
    return tuple(group for group in groups if group)


def _group(given: object) -> tuple[str, ...]:
    if isinstance(given, Mapping):  # RippleEdits: {value, aliases}
        fields = cast("Mapping[str, object]", given)
        aliases = fields.get("aliases") or []
        given = [fields.get("value"), *cast("Iterable[object]", aliases)]
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list | tuple):
        raise BadRequest(f"an answer is a text with its aliases, not {given!r}.")
    texts = [str(text).strip() for text in cast("Sequence[object]", given) if text is not None]
    return tuple(dict.fromkeys(text for text in texts if text))


class Sieve:
    """Takes the tests of one edit, and keeps count of those by which nothing can be measured."""

    def __init__(self, request: EditRequest | None) -> None:
        self._question = None if request is None else plain(request.question)
        self._tests: list[RippleTest] = []
        self._skipped: list[Skipped] = []
        self._seen: set[object] = set()

    @property
    def found(self) -> tuple[tuple[RippleTest, ...], tuple[Skipped, ...]]:
        """The tests, and what was left out."""
        return tuple(self._tests), tuple(self._skipped)

    def skip(self, why: str, criterion: str | None = None, prompt: str | None = None) -> None:
        """Count what is left out."""
        self._skipped.append(Skipped(why=why, criterion=criterion, prompt=prompt))

    def take(self, test: RippleTest) -> None:
        """Keep a test, or count it as left out."""
        if why := self._unfit(test):
            prompt = test.queries[0].prompt if test.queries else None
            self.skip(why, test.criterion, prompt)
        else:
            self._tests.append(test)

    def _unfit(self, test: RippleTest) -> str | None:
        asked = (*test.queries, *test.conditions)
        same = (test.criterion, test.queries)
        reasons = {
            "the test has no query.": not test.queries,
            "a query has no prompt.": not all(query.prompt.strip() for query in asked),
            "a query has no answer.": not all(query.answers for query in asked),
            # The builders put an empty label into a template.
            "a name is missing in a prompt.": any("  " in query.prompt for query in asked),
            "it asks the edit itself.": any(
                plain(query.prompt) == self._question for query in test.queries
            ),
            "it comes twice.": same in self._seen,
        }
        self._seen.add(same)
        return next((why for why, holds in reasons.items() if holds), None)


def plain(text: str) -> str:
    """A prompt without what makes no difference to what is asked."""
    return " ".join(text.split()).rstrip(" ?.:")
