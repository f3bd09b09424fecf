"""The relations of CounterFact asked in French and German, and their answers there.

Written for this project, for the relations that can be asked without knowing the gender or the
article of what fills the slot. A relation, or an answer, that is not here is not translated: it is
left out and counted. Standard library only.
"""

from collections.abc import Mapping
from typing import Literal, get_args

Language = Literal["french", "german"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

# Wikidata's id of a relation: how it is asked in French, and in German.
_TEMPLATES: Mapping[str, tuple[str, str]] = {
    "P17": ("Pays où se trouve {} :", "Das Land, in dem {} liegt, heißt"),
    "P19": ("{} est né à", "{} wurde geboren in"),
    "P20": ("{} est mort à", "{} starb in"),
    "P27": ("Pays de nationalité de {} :", "Das Land, dessen Staatsangehörigkeit {} hat, heißt"),
    "P30": ("Continent où se trouve {} :", "Der Kontinent, auf dem {} liegt, heißt"),
    "P36": ("La capitale de {} est", "Die Hauptstadt von {} ist"),
    "P37": ("Langue officielle de {} :", "Die Amtssprache von {} ist"),
    "P39": ("Fonction de {} :", "Amt von {}:"),
    "P101": ("Domaine d'activité de {} :", "Fachgebiet von {}:"),
    "P103": ("Langue maternelle de {} :", "Die Muttersprache von {} ist"),
    "P106": ("Profession de {} :", "Der Beruf von {} ist"),
    "P108": ("{} travaille pour", "{} arbeitet für"),
    "P127": ("{} appartient à", "{} gehört"),
    "P136": ("Genre de {} :", "Das Genre von {} ist"),
    "P140": ("Religion de {} :", "Religion von {}:"),
    "P159": ("Le siège de {} se trouve à", "Der Hauptsitz von {} befindet sich in"),
    "P176": ("{} est fabriqué par", "{} wird hergestellt von"),
    "P178": ("{} a été développé par", "{} wurde entwickelt von"),
    "P190": ("La ville jumelle de {} est", "Die Partnerstadt von {} ist"),
    "P276": ("{} se trouve à", "{} befindet sich in"),
    "P364": ("Langue originale de {} :", "Die Originalsprache von {} ist"),
    "P407": ("Langue de {} :", "Die Sprache von {} ist"),
    "P449": ("{} a été diffusé sur", "{} wurde ausgestrahlt von"),
    "P495": ("Pays d'origine de {} :", "Das Herkunftsland von {} heißt"),
    "P641": ("Sport pratiqué par {} :", "{} betreibt den Sport"),
    "P740": ("{} a été fondé à", "{} wurde gegründet in"),
    "P937": ("{} a travaillé à", "{} arbeitete in"),
    "P1303": ("Instrument joué par {} :", "{} spielt"),
    "P1412": ("{} parle", "{} spricht"),
}

_TONGUES = """
Arabic arabe Arabisch; Armenian arménien Armenisch; Bulgarian bulgare Bulgarisch;
Catalan catalan Katalanisch; Chinese chinois Chinesisch; Croatian croate Kroatisch;
Czech tchèque Tschechisch; Danish danois Dänisch; Dutch néerlandais Niederländisch;
English anglais Englisch; Estonian estonien Estnisch; Finnish finnois Finnisch;
French français Französisch; Georgian géorgien Georgisch; German allemand Deutsch;
Greek grec Griechisch; Hebrew hébreu Hebräisch; Hindi hindi Hindi; Hungarian hongrois Ungarisch;
Icelandic islandais Isländisch; Indonesian indonésien Indonesisch; Irish irlandais Irisch;
Italian italien Italienisch; Japanese japonais Japanisch; Korean coréen Koreanisch;
Latin latin Latein; Malayalam malayalam Malayalam; Marathi marathi Marathi;
Norwegian norvégien Norwegisch; Persian persan Persisch; Polish polonais Polnisch;
Portuguese portugais Portugiesisch; Romanian roumain Rumänisch; Russian russe Russisch;
Serbian serbe Serbisch; Spanish espagnol Spanisch; Swedish suédois Schwedisch; Tamil tamoul Tamil;
Telugu télougou Telugu; Thai thaï Thailändisch; Turkish turc Türkisch;
Ukrainian ukrainien Ukrainisch; Vietnamese vietnamien Vietnamesisch; Welsh gallois Walisisch
"""

_COUNTRIES = """
Afghanistan Afghanistan Afghanistan; Albania Albanie Albanien; Algeria Algérie Algerien;
Argentina Argentine Argentinien; Armenia Arménie Armenien; Australia Australie Australien;
Austria Autriche Österreich; Azerbaijan Azerbaïdjan Aserbaidschan; Belgium Belgique Belgien;
Bolivia Bolivie Bolivien; Brazil Brésil Brasilien; Bulgaria Bulgarie Bulgarien;
Cambodia Cambodge Kambodscha; Canada Canada Kanada; Chile Chili Chile; China Chine China;
Colombia Colombie Kolumbien; Croatia Croatie Kroatien; Cuba Cuba Kuba; Cyprus Chypre Zypern;
Denmark Danemark Dänemark; Egypt Égypte Ägypten; Estonia Estonie Estland;
Ethiopia Éthiopie Äthiopien; Finland Finlande Finnland; France France Frankreich;
Georgia Géorgie Georgien; Germany Allemagne Deutschland; Greece Grèce Griechenland;
Hungary Hongrie Ungarn; Iceland Islande Island; India Inde Indien; Indonesia Indonésie Indonesien;
Iran Iran Iran; Iraq Irak Irak; Ireland Irlande Irland; Israel Israël Israel;
Italy Italie Italien; Japan Japon Japan; Kenya Kenya Kenia; Latvia Lettonie Lettland;
Lebanon Liban Libanon; Libya Libye Libyen; Lithuania Lituanie Litauen; Malaysia Malaisie Malaysia;
Malta Malte Malta; Mexico Mexique Mexiko; Morocco Maroc Marokko; Nepal Népal Nepal;
Netherlands Pays-Bas Niederlande; Nigeria Nigeria Nigeria; Norway Norvège Norwegen;
Pakistan Pakistan Pakistan; Panama Panama Panama; Peru Pérou Peru;
Philippines Philippines Philippinen; Poland Pologne Polen; Portugal Portugal Portugal;
Romania Roumanie Rumänien; Russia Russie Russland; Scotland Écosse Schottland;
Senegal Sénégal Senegal; Serbia Serbie Serbien; Singapore Singapour Singapur;
Slovakia Slovaquie Slowakei; Slovenia Slovénie Slowenien; Somalia Somalie Somalia;
Spain Espagne Spanien; Sudan Soudan Sudan; Sweden Suède Schweden; Switzerland Suisse Schweiz;
Syria Syrie Syrien; Taiwan Taïwan Taiwan; Thailand Thaïlande Thailand; Tunisia Tunisie Tunesien;
Turkey Turquie Türkei; Ukraine Ukraine Ukraine; Venezuela Venezuela Venezuela;
Vietnam Vietnam Vietnam
"""

_CONTINENTS = """
Africa Afrique Afrika; Americas Amérique Amerika; Antarctica Antarctique Antarktika;
Asia Asie Asien; Europe Europe Europa; Oceania Océanie Ozeanien
"""

# Cities. Le Caire and La Mecque are left out: "à" would join their article.
_CITIES = """
Algiers Alger Algier; Amsterdam Amsterdam Amsterdam; Ankara Ankara Ankara;
Antwerp Anvers Antwerpen; Athens Athènes Athen; Barcelona Barcelone Barcelona;
Beijing Pékin Peking; Beirut Beyrouth Beirut; Belgrade Belgrade Belgrad;
Brussels Bruxelles Brüssel; Bucharest Bucarest Bukarest; Budapest Budapest Budapest;
Cologne Cologne Köln; Copenhagen Copenhague Kopenhagen; Damascus Damas Damaskus;
Dublin Dublin Dublin; Edinburgh Édimbourg Edinburgh; Florence Florence Florenz;
Frankfurt Francfort Frankfurt; Geneva Genève Genf; Genoa Gênes Genua; Hamburg Hambourg Hamburg;
Hanover Hanovre Hannover; Istanbul Istanbul Istanbul; Jakarta Jakarta Jakarta;
Jerusalem Jérusalem Jerusalem; Kabul Kaboul Kabul; Kiev Kiev Kiew; Lisbon Lisbonne Lissabon;
London Londres London; Madrid Madrid Madrid; Milan Milan Mailand; Montreal Montréal Montreal;
Moscow Moscou Moskau; Mumbai Mumbai Mumbai; Munich Munich München; Naples Naples Neapel;
Philadelphia Philadelphie Philadelphia; Prague Prague Prag; Rome Rome Rom; Seoul Séoul Seoul;
Sofia Sofia Sofia; Stockholm Stockholm Stockholm; Tehran Téhéran Teheran; Tokyo Tokyo Tokio;
Turin Turin Turin; Venice Venise Venedig; Vienna Vienne Wien; Warsaw Varsovie Warschau;
Zurich Zurich Zürich
"""

_WORDS = """
actor acteur Schauspieler; architect architecte Architekt; astronomer astronome Astronom;
comedian humoriste Komiker; composer compositeur Komponist; diplomat diplomate Diplomat;
journalist journaliste Journalist; mathematician mathématicien Mathematiker;
missionary missionnaire Missionar; novelist romancier Romanautor;
philosopher philosophe Philosoph; physician médecin Arzt; poet poète Dichter;
politician politicien Politiker; bishop évêque Bischof; pope pape Papst;
cardinal cardinal Kardinal; mayor maire Bürgermeister; anthropology anthropologie Anthropologie;
astronomy astronomie Astronomie; biology biologie Biologie; chemistry chimie Chemie;
economics économie Ökonomie; geometry géométrie Geometrie; history histoire Geschichte;
mathematics mathématiques Mathematik; medicine médecine Medizin;
philosophy philosophie Philosophie; physics physique Physik; physiology physiologie Physiologie;
psychology psychologie Psychologie; sociology sociologie Soziologie;
Buddhism bouddhisme Buddhismus; Christianity christianisme Christentum;
Hinduism hindouisme Hinduismus; Islam islam Islam; Judaism judaïsme Judentum;
guitar guitare Gitarre; piano piano Klavier; trumpet trompette Trompete; violin violon Geige;
jazz jazz Jazz; opera opéra Oper; funk funk Funk; fantasy fantasy Fantasy;
thriller thriller Thriller; basketball basket-ball Basketball; football football Football;
hockey hockey Hockey; soccer football Fußball; tennis tennis Tennis
"""

# What is called the same everywhere.
_SAME_CITIES = """
Aberdeen Atlanta Baltimore Berlin Birmingham Boston Brooklyn Chicago Cleveland Dallas Detroit
Hiroshima Houston Lahore Leeds Liverpool Manchester Manhattan Melbourne Memphis Miami Minneapolis
Oslo Ottawa Oxford Paris Perth Pittsburgh Portsmouth Rotterdam Seattle Sheffield Sydney Toronto
Vancouver Wellington Winnipeg
"""
_FIRMS = """
Adobe Airbus Amazon Apple Atari BBC BMW Boeing CBS CNN Cadillac Canon Chevrolet Chrysler Cisco Dodge
ESPN Ferrari Fiat Ford Google Honda IBM Intel Jaguar MTV Maserati Mazda McLaren Microsoft NBC NPR
Nike Nintendo Nissan Nokia PBS Porsche Renault Samsung Sega Sony Suzuki TNT Toyota Volvo Yahoo
Yamaha YouTube
"""


def _table(text: str) -> dict[str, tuple[str, str]]:
    entries = (entry.split() for entry in text.replace("\n", " ").split(";"))
    return {english: (french, german) for english, french, german in entries}


def _same(text: str) -> dict[str, tuple[str, str]]:
    return {name: (name, name) for name in text.split()}


_Table = Mapping[str, tuple[str, str]]
_CITY: _Table = {**_table(_CITIES), **_same(_SAME_CITIES)}
_COUNTRY, _CONTINENT, _TONGUE = _table(_COUNTRIES), _table(_CONTINENTS), _table(_TONGUES)
_WORD, _FIRM = _table(_WORDS), _same(_FIRMS)

# What may answer a relation. A country behind "est né à" would be bad French.
_ANSWERS: Mapping[str, _Table] = {
    **dict.fromkeys(("P19", "P20", "P36", "P159", "P190", "P276", "P740", "P937"), _CITY),
    **dict.fromkeys(("P17", "P27", "P495"), _COUNTRY),
    **dict.fromkeys(("P37", "P103", "P364", "P407", "P1412"), _TONGUE),
    **dict.fromkeys(("P39", "P101", "P106", "P136", "P140", "P641", "P1303"), _WORD),
    **dict.fromkeys(("P108", "P127", "P176", "P178", "P449"), _FIRM),
    "P30": _CONTINENT,
}


def translated(relation: str | None, answer: str, language: Language) -> str | None:
    """The answer to a relation in another language; None where it is not known."""
    found = _ANSWERS.get(relation or "", {}).get(answer.strip())
    return None if found is None else found[LANGUAGES.index(language)]


def asked_in(relation: str | None, subject: str, language: Language) -> str | None:
    """A relation's question about a subject in another language; None where it was not written.

    A subject that has another name there (a country, a city) is called by it.
    """
    found = _TEMPLATES.get(relation or "")
    if found is None:
        return None
    at = LANGUAGES.index(language)
    places = {**_CITY, **_COUNTRY}
    return found[at].replace("{}", places[subject][at] if subject in places else subject)
