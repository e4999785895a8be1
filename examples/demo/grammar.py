"""A small German-English grammar in which most sources have several equally good translations.

All translations of a source have the same number of tokens but differ in order or wording. A model
that chooses each token independently mixes them ("tomorrow must read the book today"). This is the
multimodality problem that the CRF addresses (arXiv 1910.11555, section 1).
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Clause = tuple[str, list[str]]
"""A German clause and its English translations, all with the same number of tokens."""

HOURS = "one two three four five six seven eight nine ten eleven twelve".split()
MINUTES = {5: "five", 10: "ten", 20: "twenty", 25: "twentyfive"}
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh".split()
MONTHS = {
    "januar": "january",
    "februar": "february",
    "märz": "march",
    "april": "april",
    "mai": "may",
    "juni": "june",
    "juli": "july",
    "august": "august",
}
PEOPLE = {
    "die frau": "the woman",
    "der mann": "the man",
    "das kind": "the child",
    "die ärztin": "the doctor",
    "der lehrer": "the teacher",
    "die nachbarin": "the neighbour",
}
OWNERS = {
    "der frau": "the woman",
    "des mannes": "the man",
    "des kindes": "the child",
    "der ärztin": "the doctor",
    "des lehrers": "the teacher",
    "der nachbarin": "the neighbour",
}
THINGS = {
    "das buch": "the book",
    "das auto": "the car",
    "die lampe": "the lamp",
    "die uhr": "the watch",
    "das fahrrad": "the bicycle",
    "die tasche": "the bag",
}
OBJECTS = {
    "einen brief": "a letter",
    "ein buch": "a book",
    "eine zeitung": "a newspaper",
    "einen bericht": "a report",
    "eine karte": "a card",
}
READING = {"lesen": "read", "schreiben": "write", "finden": "find", "kaufen": "buy"}
DAYS = {"morgen": "tomorrow", "heute": "today", "bald": "soon", "später": "later"}
COLOURS = {"rot": "red", "blau": "blue", "neu": "new", "alt": "old", "teuer": "expensive"}
ANIMALS = {
    "ein hund": "a dog",
    "eine katze": "a cat",
    "ein pferd": "a horse",
    "ein vogel": "a bird",
}
PLACES = {
    "im garten": "in the garden",
    "am fenster": "at the window",
    "auf der straße": "on the street",
    "vor dem haus": "outside the house",
}


def clock(rng: random.Random) -> Clause:
    hour = rng.randrange(12)
    number, minutes = rng.choice(list(MINUTES.items()))
    return f"es ist jetzt {hour + 1} uhr {number}", [
        f"it is now {minutes} minutes past {HOURS[hour]}",
        f"the time right now is {HOURS[hour]} {minutes}",
    ]


def appointment(rng: random.Random) -> Clause:
    person, who = rng.choice(list(PEOPLE.items()))
    monat, month = rng.choice(list(MONTHS.items()))
    day, year = rng.randrange(11), rng.randrange(2001, 2021)
    return f"{person} kommt am {day + 1} . {monat} {year}", [
        f"{who} comes on the {ORDINALS[day]} of {month} {year}",
        f"{who} comes on {month} the {ORDINALS[day]} , {year}",
    ]


def half_past(rng: random.Random) -> Clause:
    hour = rng.randrange(11)
    person, who = rng.choice(list(PEOPLE.items()))
    verb, do = rng.choice(list(READING.items()))
    objekt, what = rng.choice(list(OBJECTS.items()))
    times = [f"at half past {HOURS[hour]}", f"at {HOURS[hour]} thirty exactly"]
    clause = f"{who} will {do} {what}"
    return f"um halb {hour + 2} wird {person} {objekt} {verb}", [
        english for time in times for english in (f"{time} {clause}", f"{clause} {time}")
    ]


def price(rng: random.Random) -> Clause:
    thing, what = rng.choice(list(THINGS.items()))
    euros = rng.randrange(2, 60)
    return f"insgesamt kostet {thing} {euros} euro", [
        f"in total {what} costs {euros} euros",
        f"{what} costs {euros} euros in total",
    ]


def duty(rng: random.Random) -> Clause:
    tag, day = rng.choice(list(DAYS.items()))
    person, who = rng.choice(list(PEOPLE.items()))
    verb, do = rng.choice(list(READING.items()))
    objekt, what = rng.choice(list(OBJECTS.items()))
    return f"{tag} muss {person} {objekt} {verb}", [
        f"{day} {who} must {do} {what}",
        f"{who} must {do} {what} {day}",
    ]


def possession(rng: random.Random) -> Clause:
    thing, what = rng.choice(list(THINGS.items()))
    owner, who = rng.choice(list(OWNERS.items()))
    farbe, colour = rng.choice(list(COLOURS.items()))
    return f"{thing} {owner} ist {farbe}", [
        f"{what} of {who} is {colour}",
        f"{what} {who} owns is {colour}",
    ]


def presence(rng: random.Random) -> Clause:
    tier, animal = rng.choice(list(ANIMALS.items()))
    ort, place = rng.choice(list(PLACES.items()))
    return f"{ort} ist {tier}", [f"there is {animal} {place}", f"{place} there is {animal}"]


CLAUSES: tuple[Callable[[random.Random], Clause], ...] = (
    clock,
    appointment,
    half_past,
    price,
    duty,
    possession,
    presence,
)


@dataclass(frozen=True)
class Pair:
    """A source, all its valid translations, and the one used in the corpus."""

    source: str
    valid: tuple[str, ...]
    shown: str


def sentence(rng: random.Random) -> Pair:
    """One or two random clauses, with one of the valid translations chosen at random."""
    source, valid = rng.choice(CLAUSES)(rng)
    if rng.random() < 0.4:
        german, english = rng.choice(CLAUSES)(rng)
        source = f"{source} und {german}"
        valid = [f"{first} and {second}" for first in valid for second in english]
    finished = tuple(f"{translation} ." for translation in valid)
    return Pair(f"{source} .", finished, rng.choice(finished))


def corpus(seed: int) -> Iterator[Pair]:
    """An endless sequence of pairs with distinct sources, determined by the seed."""
    rng = random.Random(seed)
    seen = set()
    while True:
        pair = sentence(rng)
        if pair.source not in seen:
            seen.add(pair.source)
            yield pair


def mixes_modes(output: str, valid: tuple[str, ...]) -> bool:
    """Whether each token is correct at its position in some translation, but the whole is none."""
    if output in valid:
        return False
    tokens = output.split()
    columns = [set(column) for column in zip(*(v.split() for v in valid), strict=True)]
    return len(tokens) == len(columns) and all(
        token in column for token, column in zip(tokens, columns, strict=True)
    )
