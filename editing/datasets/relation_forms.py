"""How the relations of CounterFact are called in words, and the same change asked from both ends.

RaKE (Wei et al. 2023, arXiv:2311.09053) gives a relation a name and asks "The relation between s
and o is". An edit (s, r, o) -> (s, r, o*) is then, seen from the relation's end, that r holds
between s and o* and no longer between s and o. The words below are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from editing.errors import BadRecord, BadRequest, SubjectSlotMissing
from editing.request import NO_RELATION, EditRequest

from .counterfact import DATASET, counterfact_request
from .sets import LeftOut

About = Literal["person", "place", "organization", "product", "work"]
Objects = Literal["one", "several"]

ASKED = "The relation between {} and [O] is"
ASKED_ANEW = (
    "What is the relation between {} and [O]? It is",
    "{} and [O] stand in a relation that is called",
    "The word for how {} is related to [O] is",
)


@dataclass(frozen=True, slots=True)
class RelationForm:
    """A relation in words: its name, other words for it, and what kind it is of."""

    name: str
    others: tuple[str, ...]
    about: About  # what its subjects are
    objects: Objects  # how many a subject usually has


def _form(name: str, *others: str, about: About, objects: Objects = "one") -> RelationForm:
    return RelationForm(name, others, about, objects)


# Wikidata id -> the relation in words; all that CounterFact has.
FORMS: Mapping[str, RelationForm] = {
    "P17": _form("country", "located in the country", "state", about="place"),
    "P19": _form("place of birth", "birthplace", "born in", about="person"),
    "P20": _form("place of death", "died in", "deathplace", about="person"),
    "P27": _form(
        "country of citizenship", "citizenship", "nationality", about="person", objects="several"
    ),
    "P30": _form("continent", "part of the continent", "located on the continent", about="place"),
    "P36": _form("capital", "capital city", "seat of government", about="place"),
    "P37": _form(
        "official language", "state language", "language of the country",
        about="place", objects="several",
    ),
    "P39": _form(
        "position held", "office held", "title held", about="person", objects="several"
    ),
    "P101": _form(
        "field of work", "area of work", "field of expertise", about="person", objects="several"
    ),
    "P103": _form("native language", "mother tongue", "first language", about="person"),
    "P106": _form(
        "occupation", "profession", "line of work", about="person", objects="several"
    ),
    "P108": _form("employer", "employed by", "works for", about="person", objects="several"),
    "P127": _form("owner", "owned by", "proprietor", about="organization"),
    "P131": _form(
        "administrative region", "administrative division", "located in the region", about="place"
    ),
    "P136": _form("genre", "musical genre", "style", about="person", objects="several"),
    "P138": _form("namesake", "named after", "eponym", about="place"),
    "P140": _form("religion", "faith", "religious affiliation", about="person"),
    "P159": _form("headquarters", "headquarters location", "head office", about="organization"),
    "P176": _form("manufacturer", "made by", "maker", about="product"),
    "P178": _form("developer", "developed by", "creator", about="product"),
    "P190": _form("twin city", "sister city", "partner town", about="place", objects="several"),
    "P264": _form("record label", "music label", "signed to the label", about="person"),
    "P276": _form("location", "place where it is", "site", about="place"),
    "P364": _form("original language", "language of the original", "first made in", about="work"),
    "P407": _form("language of the work", "language it is in", "written in", about="work"),
    "P413": _form("playing position", "position on the team", "plays as", about="person"),
    "P449": _form("original network", "original broadcaster", "television network", about="work"),
    "P463": _form(
        "membership", "member of", "belongs to", about="organization", objects="several"
    ),
    "P495": _form("country of origin", "place of origin", "originated in", about="work"),
    "P641": _form("sport", "sport played", "athletic discipline", about="person"),
    "P740": _form("location of formation", "place of founding", "founded in", about="organization"),
    "P937": _form("work location", "place of work", "workplace", about="person", objects="several"),
    "P1303": _form(
        "instrument", "musical instrument", "instrument played", about="person", objects="several"
    ),
    "P1412": _form(
        "language used", "language spoken", "spoken language", about="person", objects="several"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BothEnds:
    """One change as an edit of the object and as an edit of the relation."""

    id: str
    form: RelationForm
    entity: EditRequest
    relation: EditRequest


def relation_cases(
    records: Sequence[Mapping[str, Any]], _: object = None
) -> list[BothEnds | LeftOut]:
    """Every record of CounterFact's own form as a case. Raises BadRecord.

    A relation that has no words here is left out, and counted.
    """
    return [_case(number, record) for number, record in enumerate(records)]


def _case(number: int, record: Mapping[str, Any]) -> BothEnds | LeftOut:
    try:
        return _both_ends(number, counterfact_request(number, record))
    except SubjectSlotMissing:
        return LeftOut(number, "the subject does not stand in the prompt.")
    except (BadRequest, AttributeError, TypeError) as error:
        raise BadRecord(number, why=str(error), dataset=DATASET) from error


def _both_ends(number: int, entity: EditRequest) -> BothEnds | LeftOut:
    if entity.relation is None:
        raise BadRequest("it names no relation; the authors' own form does (relation_id).")
    form = FORMS.get(entity.relation)
    if form is None:
        return LeftOut(number, f"the relation {entity.relation} has no words here.")
    return BothEnds(entity.relation, form, entity, relation_edit(entity, form.name))


def relation_edit(entity: EditRequest, name: str) -> EditRequest:
    """The same change seen from the relation: added to the new object, removed from the old."""
    new, old = entity.target_new, str(entity.target_true)
    return EditRequest(
        perspective="relation",
        subject=entity.subject,
        prompt=ASKED.replace("[O]", new),
        target_new=name,
        target_true=NO_RELATION,
        object=new,
        delete_prompt=ASKED.replace("[O]", old),
        relation=entity.relation,
        paraphrases=tuple(
            text.replace("[O]", new).replace("{}", entity.subject) for text in ASKED_ANEW
        ),
    )
