"""English by a small grammar: people with trades, in places, who make, move and say things without meaning."""

from __future__ import annotations

from dataclasses import dataclass

from trainer_node.engines.tinylm.synthetic_words import Dice, invented_names, phrases, sentence, words

FIRST = words(
    "Anna Thomas Mary Edward Ruth Henry Clara George Ellen Walter Alice Hugh Martha Robert Jane Simon Edith Arthur "
    "Susan Philip Helen Francis Agnes Oliver Lucy Matthew Harriet Daniel Rose Stephen Nora Gilbert Margaret Adam "
    "Frances Bernard Emily Martin Judith Roger Sarah Julian Beatrice Leonard Grace Patrick Dorothy Vincent"
)
NAME_STARTS = words(
    "Har Ald Win Thorn Black Ash Stan Mar Kirk Wood Brad Elm Lang Whit Holl Crow Fern Grey Pem Dun Red Had Lin Cold "
    "Stoke Beck Oak Raven Hazel Wil Cran Dray Fal Gold Heath Ing Kel Lock Mill Nor Old Pax Quen Rush Shel Tam Ul Ver"
)
NAME_ENDS = words(
    "wick ton ham ford bury ley worth by field well brook dale stead mouth bridge den gate combe hurst shaw croft "
    "thorpe sea minster low cliffe pool mere stow head"
)
NAMES = invented_names(
    "en",
    words("b br c cl d dr f fl g gr h j k l m n p pr r s sh st sw t th tr v w y z"),
    words("a e i o u ai ee oa ou ea"),
    words("ck d ft ld ll m n nd ng p rd rk rn rt sk ss st t th w x"),
)
TRADES = words(
    "miller baker carpenter sailor weaver smith farmer teacher doctor gardener tailor fisherman painter printer clerk "
    "shepherd potter mason cooper hunter soldier merchant cook porter judge pilot glazier saddler brewer musician "
    "nurse librarian astronomer engineer ferryman beekeeper lamplighter clockmaker bookbinder locksmith innkeeper "
    "goldsmith"
)
THINGS = words(
    "letter book lamp boat key basket coat knife table bell rope chair box map coin ring hat mirror candle window "
    "ladder bottle barrel wheel hammer cart blanket door stove kettle drum violin clock compass lantern needle saddle "
    "bucket shovel plough anchor sail oar net bridle cradle pillow carpet curtain portrait diary parcel ticket "
    "umbrella telescope thermometer spindle chisel anvil trumpet whistle button ribbon necklace bracelet goblet "
    "saucer teapot ladle sieve hatchet wagon carriage raft bench shelf cupboard drawer suitcase trunk envelope ledger "
    "inkwell"
)
PLACES = words(
    "house river garden market harbour forest bridge mill church field road kitchen station square hill tower school "
    "island valley inn cellar library orchard meadow stable quay workshop castle shore chapel attic barn lighthouse "
    "courtyard quarry vineyard theatre hospital museum bakery cemetery fountain crossroads waterfall marsh tunnel "
    "greenhouse boathouse warehouse schoolyard balcony corridor staircase"
)
ADJECTIVES = words(
    "old small dark white long quiet heavy broken green narrow cold empty strange bright red poor wet rusty wooden "
    "blue deep gentle bitter golden grey honest thin silent clever proud patient hollow crooked distant faithful "
    "frozen muddy polished ragged sacred shallow sleepy sturdy sudden tender ugly velvet weary yellow ancient brittle "
    "careful dusty fragile graceful hungry ivory jealous lonely marvellous nervous obedient peculiar respectable "
    "scarlet transparent uncertain venerable wonderful extraordinary fashionable"
)
MADE = words(
    "carry:carried find:found open:opened lose:lost sell:sold mend:mended bring:brought hide:hid paint:painted "
    "break:broke buy:bought clean:cleaned lift:lifted borrow:borrowed forget:forgot steal:stole wash:washed keep:kept "
    "burn:burned fold:folded drop:dropped count:counted throw:threw draw:drew weigh:weighed repair:repaired "
    "measure:measured polish:polished choose:chose bury:buried cover:covered deliver:delivered describe:described "
    "discover:discovered examine:examined exchange:exchanged gather:gathered admire:admired recognise:recognised "
    "remember:remembered replace:replaced return:returned sharpen:sharpened surround:surrounded unpack:unpacked "
    "wrap:wrapped abandon:abandoned decorate:decorated"
)
MOVED = words(
    "walk:walked go:went run:ran ride:rode sail:sailed climb:climbed wander:wandered hurry:hurried travel:travelled "
    "march:marched creep:crept drive:drove row:rowed stumble:stumbled swim:swam gallop:galloped stroll:strolled "
    "limp:limped drift:drifted journey:journeyed"
)
SAID = words("said asked answered whispered cried repeated shouted murmured explained promised complained confessed")
WHEN = phrases(
    "in the morning; that evening; at noon; before sunrise; after the storm; on the first day of {month}; in the "
    "winter of that year; every {day}; late at night; {number} days later; when the bells rang; as soon as the rain "
    "stopped; one {day} in {month}; towards the end of {month}; {number} years earlier"
)
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January February March April May June July August September October November December")
UNITS = words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
BECAUSE = phrases(
    "because nobody had {past} the {thing}; although the {place} was {adjective}; so that the {trade} could {verb} it "
    "again; while the {trade} {past} another {thing}; until the {place} was {adjective} and {adjective}; unless the "
    "{trade} would {verb} the {thing}; for the {thing} was too {adjective} to {verb}"
)


@dataclass(frozen=True)
class _Scene:
    """What a paragraph keeps coming back to."""

    hero: str
    trade: str
    thing: str
    place: str
    town: str


def paragraph(dice: Dice) -> str:
    """A paragraph of two to seven sentences about one scene."""
    town = _name(dice)
    scene = _Scene(f"{dice.of(FIRST)} {_name(dice)}", dice.of(TRADES), dice.of(THINGS), dice.of(PLACES), town)
    makers = (_made, _moved, _said, _was, _there, _asked)
    return " ".join(sentence(dice.of(makers)(dice, scene)) for _ in range(dice.number(2, 7)))


def number(value: int) -> str:
    """1 to 99 in words."""
    if value < 20:
        return UNITS[value - 1]
    return TENS[value // 10 - 2] + (f"-{UNITS[value % 10 - 1]}" if value % 10 else "")


def _name(dice: Dice) -> str:
    return dice.any_of(NAMES) if dice.chance(0.6) else dice.any_of(NAME_STARTS) + dice.any_of(NAME_ENDS)


def _who(dice: Dice, scene: _Scene) -> str:
    choices = (scene.hero.split()[0], f"the {scene.trade}", f"the {dice.of(ADJECTIVES)} {dice.of(TRADES)}", scene.hero)
    return dice.of((*choices, f"the {scene.trade} of {scene.town}", f"Mr {_name(dice)}", f"Mrs {_name(dice)}"))


def _what(dice: Dice, scene: _Scene) -> str:
    few = f"{number(dice.number(2, 99))} {dice.of(ADJECTIVES)} {_plural(dice.of(THINGS))}"
    thing = dice.of(THINGS)
    choices = (f"the {scene.thing}", f"the {dice.of(ADJECTIVES)} {thing}", f"{_a(dice.of(ADJECTIVES))} {thing}")
    return dice.of((*choices, few, f"the {thing} of the {dice.of(TRADES)}", f"all the {_plural(thing)}"))


def _where(dice: Dice, scene: _Scene) -> str:
    near = dice.of(("in the", "near the", "behind the", "beside the", "outside the", "beyond the", "above the"))
    place = dice.of((scene.place, dice.of(PLACES), f"{dice.of(ADJECTIVES)} {dice.of(PLACES)}"))
    return f"{near} {place}" + (f" of {dice.of((scene.town, _name(dice)))}" if dice.chance(0.3) else "")


def _when(dice: Dice) -> str:
    many = number(dice.number(2, 60))
    return dice.of(WHEN).format(month=dice.any_of(MONTHS), day=dice.any_of(DAYS), number=many)


def _adverb(dice: Dice) -> str:
    return _ly(dice.of(ADJECTIVES)) if dice.chance(0.3) else ""


def _made(dice: Dice, scene: _Scene) -> str:
    text = f"{_who(dice, scene)} {_adverb(dice)} {_past(dice.of(MADE))} {_what(dice, scene)} {_where(dice, scene)}"
    return _framed(dice, text)


def _moved(dice: Dice, scene: _Scene) -> str:
    way = dice.of(("to", "towards", "across", "through", "past", "around", "from"))
    to = dice.of((f"the {scene.place}", scene.town, f"the {dice.of(PLACES)}", _name(dice)))
    text = f"{_who(dice, scene)} {_past(dice.of(MOVED))} {way} {to} {_adverb(dice)} with {_what(dice, scene)}"
    return _framed(dice, text)


def _said(dice: Dice, scene: _Scene) -> str:
    base = dice.of(MADE).split(":")[0]
    heard = dice.of(("I will", "you must", "we shall never", "nobody can", "let us", "they used to"))
    return f'"{heard} {base} {_what(dice, scene)}," {dice.of(SAID)} {_who(dice, scene)}'.replace('"i ', '"I ')


def _asked(dice: Dice, scene: _Scene) -> str:
    base = dice.of(MADE).split(":")[0]
    return f'"Why did {_who(dice, scene)} {base} {_what(dice, scene)} {_where(dice, scene)}?" asked {scene.hero}'


def _was(dice: Dice, scene: _Scene) -> str:
    what = dice.of((f"the {scene.place}", f"the {scene.thing}", scene.town, f"the {dice.of(THINGS)}"))
    return _framed(dice, f"{what} was {dice.of(ADJECTIVES)} and {_ly(dice.of(ADJECTIVES))} {dice.of(ADJECTIVES)}")


def _there(dice: Dice, scene: _Scene) -> str:
    ing = _ing(dice.of(MADE).split(":")[0])
    return f"there was {_a(dice.of(TRADES))} {_where(dice, scene)}, {ing} {_what(dice, scene)} {_when(dice)}"


def _framed(dice: Dice, text: str) -> str:
    """With a time before it, a reason behind it, both or neither."""
    if dice.chance(0.3):
        text = f"{_when(dice)}, {text}"
    if dice.chance(0.35):
        base, past = dice.of(MADE).split(":")
        words = {"thing": dice.of(THINGS), "place": dice.of(PLACES), "trade": dice.of(TRADES)}
        text += " " + dice.of(BECAUSE).format(verb=base, past=past, adjective=dice.of(ADJECTIVES), **words)
    return text


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("fe"):
        return noun[:-2] + "ves"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _past(verb: str) -> str:
    return verb.split(":")[1]


def _ing(base: str) -> str:
    if base.endswith("e"):
        return base[:-1] + "ing"
    doubled = len(base) <= 4 and base[-1] in "pt" and base[-2] in "aeiou" and base[-3] not in "aeiou"
    return base + (base[-1] if doubled or base in {"forget", "wrap"} else "") + "ing"


def _ly(adjective: str) -> str:
    if adjective.endswith("y") and len(adjective) > 3:
        return adjective[:-1] + "ily"
    return adjective[:-1] + "y" if adjective.endswith("le") else adjective + "ly"
