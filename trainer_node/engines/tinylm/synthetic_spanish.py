"""Spanish by a small grammar, with agreement and conjugation: people with trades who make, move and say things."""

from __future__ import annotations

from dataclasses import dataclass

from trainer_node.engines.tinylm.synthetic_words import Dice, invented_names, phrases, sentence, words

FIRST = words(
    "Ana Tomás María Eduardo Rosa Enrique Clara Jorge Elena Gonzalo Alicia Hugo Marta Roberto Juana Simón Inés Arturo "
    "Susana Felipe Teresa Francisco Isabel Álvaro Lucía Mateo Beatriz Daniel Pilar Esteban Leonor Ignacio Margarita "
    "Adán Carmen Bernardo Emilia Martín Dolores Rodrigo Sara Julián Concepción Leandro Gracia Íñigo Dorotea Vicente"
)
NAME_STARTS = words(
    "Villa Monte Val Peña Fuente Torre Casa Agua Puente Santa Río Mira Alta Bella Campo Cerro Prado Roble Piedra Luna "
    "Sierra Oliva Pinar Zarza Mata Loma Cueva Arroyo Rosa Alba Buena Clara Guada Almo Beni Carra Ense Hino Mala Tala"
)
NAME_ENDS = words(
    "rreda blanca verde seca hermosa lar nueva mayor doria gal mena quilla rán zuela nares lobos mira negra franca "
    "cines dalia fría jara lejo mora nilla pando rubia sol tejo"
)
NAMES = invented_names(
    "es",
    words("b br c ch d f fl g gr j l ll m n ñ p pl r s t tr v y z"),
    words("a e i o u ie ue ia ai oi"),
    words("n r s l z ndo rte sco nte ste lma nza ra no do"),
)
# Nouns say their gender by the article.
TRADES = words(
    "el:molinero la:panadera el:carpintero el:marinero la:tejedora el:herrero la:labradora el:maestro la:médica "
    "el:jardinero el:sastre la:pescadora el:pintor la:costurera el:escribano el:pastor la:alfarera el:cantero "
    "el:cazador el:soldado la:mercadera el:cocinero la:enfermera el:juez el:piloto la:lavandera el:músico "
    "la:bibliotecaria el:astrónomo la:ingeniera el:barquero el:relojero la:encuadernadora el:cerrajero la:posadera "
    "el:orfebre la:boticaria el:farolero el:colmenero la:hilandera el:arriero la:pregonera"
)
THINGS = words(
    "la:carta el:libro la:lámpara el:barco la:llave el:cesto el:abrigo el:cuchillo la:mesa la:campana la:cuerda "
    "la:silla la:caja el:mapa la:moneda el:anillo el:sombrero el:espejo la:vela la:ventana la:escalera la:botella "
    "el:barril la:rueda el:martillo el:carro la:manta la:puerta la:olla el:tambor el:violín el:reloj la:brújula "
    "el:farol la:aguja el:cubo la:pala el:arado la:red la:brida la:cuna la:almohada la:alfombra la:cortina el:retrato "
    "el:diario el:paquete el:billete el:paraguas el:telescopio el:termómetro el:huso el:cincel el:yunque la:trompeta "
    "el:silbato el:botón la:cinta el:collar la:pulsera la:copa el:plato la:tetera el:cucharón la:carreta la:balsa "
    "el:banco el:estante el:armario el:cajón la:maleta el:baúl el:sobre el:tintero la:guitarra"
)
PLACES = words(
    "la:casa el:río el:jardín el:mercado el:puerto el:bosque el:puente el:molino la:iglesia el:campo el:camino "
    "la:cocina la:estación la:plaza el:cerro la:torre la:escuela la:isla el:valle la:posada el:sótano la:biblioteca "
    "la:huerta el:prado el:establo el:muelle el:taller el:castillo la:orilla la:capilla el:desván el:granero el:faro "
    "el:patio la:cantera el:viñedo el:teatro el:hospital el:museo la:panadería el:cementerio la:fuente la:encrucijada "
    "la:cascada el:pantano el:túnel el:invernadero el:almacén el:balcón el:pasillo la:ermita la:muralla"
)
ADJECTIVES = words(
    "viejo pequeño oscuro blanco largo quieto pesado roto verde estrecho frío vacío extraño claro rojo pobre húmedo "
    "oxidado azul hondo amable amargo dorado gris honrado delgado callado listo orgulloso paciente hueco torcido "
    "lejano fiel helado embarrado pulido sagrado dormido robusto repentino tierno feo cansado amarillo antiguo frágil "
    "cuidadoso polvoriento gracioso hambriento celoso solitario maravilloso nervioso obediente curioso respetable "
    "transparente incierto venerable extraordinario elegante silencioso desconocido misterioso"
)
# Infinitives; all regular.
MADE = words(
    "llevar encontrar_ abrir perder_ vender reparar comprar esconder pintar romper_ limpiar levantar olvidar robar "
    "lavar guardar quemar doblar contar_ arrojar dibujar pesar medir_ cubrir entregar describir_ descubrir examinar "
    "cambiar admirar recordar_ recibir afilar rodear envolver_ abandonar adornar prestar cargar_ coser escribir_ "
    "beber comer temer barrer tejer cortar mirar tocar_ lijar desatar preparar enterrar_ recoger_ vigilar"
)
MOVED = words("caminar viajar andar_ correr subir bajar entrar pasear cabalgar_ navegar_ marchar partir volver_ nadar")
SAID = words(
    "dijo preguntó respondió susurró gritó repitió murmuró explicó prometió confesó exclamó añadió replicó contestó"
)
WHEN = phrases(
    "por la mañana; aquella tarde; al mediodía; antes del alba; después de la tormenta; el {number} de {month}; en el "
    "invierno de aquel año; todos los {day}; a medianoche; {number} días después; cuando sonaron las campanas; en "
    "cuanto cesó la lluvia; un {day} de {month}; a fines de {month}; {number} años antes"
)
DAYS = words("lunes martes miércoles jueves viernes sábado domingo")
MONTHS = words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre")
UNITS = words(
    "uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
)
TENS = words("treinta cuarenta cincuenta sesenta setenta ochenta noventa")

# By the vowel of the infinitive: he (past, used to, will, would, may), they (past, used to), we, you, while.
_FORMS = ("past", "was", "will", "would", "may", "pasts", "were", "we", "you", "they", "ing")
_ENDINGS = {
    "a": words("ó aba ará aría e aron aban aremos abas arían ando"),
    "e": words("ió ía erá ería a ieron ían eremos ías erían iendo"),
    "i": words("ió ía irá iría a ieron ían iremos ías irían iendo"),
}


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
    hero, town = f"{dice.of(FIRST)} de {_name(dice)}", _name(dice)
    scene = _Scene(hero, dice.of(TRADES), dice.of(THINGS), dice.of(PLACES), town)
    makers = (_made, _moved, _said, _was, _there, _asked)
    said = " ".join(sentence(dice.of(makers)(dice, scene)) for _ in range(dice.number(2, 7)))
    return said.replace(" de el ", " del ").replace(" a el ", " al ")


def number(value: int) -> str:
    """1 to 99 in words."""
    if value < 30:
        return UNITS[value - 1]
    return TENS[value // 10 - 3] + (f" y {UNITS[value % 10 - 1]}" if value % 10 else "")


def conjugated(infinitive: str, form: str) -> str:
    """A regular verb: he past, was, will, would, may; they pasts, were, they (would); we (will); you (used to); ing.

    The spelling keeps the sound: buscar, busque; llegar, llegue; cazar, cace; recoger, recoja.
    """
    stem, ending = infinitive[:-2], _ENDINGS[infinitive[-2]][_FORMS.index(form)]
    if form == "may":
        for sound, kept in (("c", "qu"), ("g", "gu"), ("z", "c")) if infinitive[-2] == "a" else (("g", "j"),):
            if stem.endswith(sound):
                stem = stem.removesuffix(sound) + kept
    return stem + ending


def agreeing(adjective: str, noun: str, *, plural: bool = False) -> str:
    """The adjective with the gender of `el:…` or `la:…`, and its number."""
    if adjective.endswith("o") and noun.startswith("la:"):
        adjective = adjective[:-1] + "a"
    return _plural(adjective) if plural else adjective


def _verb(dice: Dice, form: str) -> str:
    """A verb that makes something; those that change their stem, marked by `_`, are not asked for that form."""
    verb = dice.of(MADE)
    while form == "may" and verb.endswith("_"):
        verb = dice.of(MADE)
    return conjugated(verb.rstrip("_"), form)


def _name(dice: Dice) -> str:
    return dice.any_of(NAMES) if dice.chance(0.6) else dice.any_of(NAME_STARTS) + dice.any_of(NAME_ENDS)


def _the(noun: str) -> str:
    article, word = noun.split(":")
    return f"{article} {word}"


def _a(noun: str) -> str:
    article, word = noun.split(":")
    return f"{'una' if article == 'la' else 'un'} {word}"


def _who(dice: Dice, scene: _Scene) -> str:
    other = dice.of(TRADES)
    choices = (scene.hero.split()[0], _the(scene.trade), f"{_the(other)} {agreeing(dice.of(ADJECTIVES), other)}")
    more = (scene.hero, f"{_the(scene.trade)} de {scene.town}", f"don {_name(dice)}", f"doña {_name(dice)}")
    return dice.of((*choices, *more))


def _what(dice: Dice, scene: _Scene) -> str:
    thing, adjective = dice.of(THINGS), dice.of(ADJECTIVES)
    word = thing.split(":")[1]
    few = f"{number(dice.number(2, 99))} {_plural(word)} {agreeing(adjective, thing, plural=True)}"
    every = f"{'todas las' if thing.startswith('la:') else 'todos los'} {_plural(word)}"
    choices = (
        _the(scene.thing),
        f"{_the(thing)} {agreeing(adjective, thing)}",
        f"{_a(thing)} {agreeing(adjective, thing)}",
    )
    return dice.of((*choices, few, f"{_the(thing)} de {_the(dice.of(TRADES))}", every))


def _where(dice: Dice, scene: _Scene) -> str:
    place = dice.of((scene.place, dice.of(PLACES)))
    near = dice.of(("en", "cerca de", "detrás de", "junto a", "fuera de", "más allá de", "encima de"))
    said = _the(place) + (f" {agreeing(dice.of(ADJECTIVES), place)}" if dice.chance(0.3) else "")
    return f"{near} {said}" + (f" de {dice.of((scene.town, _name(dice)))}" if dice.chance(0.3) else "")


def _when(dice: Dice) -> str:
    many = number(dice.number(2, 30))
    return dice.of(WHEN).format(month=dice.any_of(MONTHS), day=dice.any_of(DAYS), number=many)


def _adverb(dice: Dice) -> str:
    return agreeing(dice.of(ADJECTIVES), "la:") + "mente" if dice.chance(0.3) else ""


def _made(dice: Dice, scene: _Scene) -> str:
    form = dice.of(("past", "was", "will", "would"))
    text = f"{_who(dice, scene)} {_verb(dice, form)} {_adverb(dice)} {_what(dice, scene)} {_where(dice, scene)}"
    return _framed(dice, text)


def _moved(dice: Dice, scene: _Scene) -> str:
    way = dice.of(("hasta", "hacia", "por", "desde"))
    to = dice.of((_the(scene.place), scene.town, _the(dice.of(PLACES)), _name(dice)))
    went = conjugated(dice.of(MOVED).rstrip("_"), dice.of(("was", "will")))
    return _framed(dice, f"{_who(dice, scene)} {went} {way} {to} {_adverb(dice)} con {_what(dice, scene)}")


def _said(dice: Dice, scene: _Scene) -> str:
    infinitive = dice.of(MADE).rstrip("_")
    heard = dice.of(("Voy a", "Usted debe", "Nunca vamos a", "Nadie puede", "No hay que", "Ellos solían"))
    plain = (f"{heard} {infinitive}", f"nosotros {_verb(dice, 'we')}", f"tú {_verb(dice, 'you')}")
    hoped = (f"ojalá alguien {_verb(dice, 'may')}", f"ellos {_verb(dice, 'they')}", f"ayer {_verb(dice, 'pasts')}")
    return f"—{dice.of((*plain, *hoped))} {_what(dice, scene)} —{dice.of(SAID)} {_who(dice, scene)}"


def _asked(dice: Dice, scene: _Scene) -> str:
    return f"—¿Por qué {_verb(dice, 'was')} {_who(dice, scene)} {_what(dice, scene)}? —preguntó {scene.hero}"


def _was(dice: Dice, scene: _Scene) -> str:
    noun = dice.of((scene.place, scene.thing, dice.of(THINGS), dice.of(PLACES)))
    how = agreeing(dice.of(ADJECTIVES), "la:") + "mente"
    said = f"{_the(noun)} estaba {agreeing(dice.of(ADJECTIVES), noun)} y {how} {agreeing(dice.of(ADJECTIVES), noun)}"
    return _framed(dice, said)


def _there(dice: Dice, scene: _Scene) -> str:
    return f"{_a(dice.of(TRADES))} {_where(dice, scene)} estaba {_verb(dice, 'ing')} {_what(dice, scene)}"


def _framed(dice: Dice, text: str) -> str:
    """With a time before it, a reason behind it, both or neither."""
    if dice.chance(0.3):
        text = f"{_when(dice)}, {text}"
    if dice.chance(0.35):
        text += f" {_reason(dice)}"
    return text


def _reason(dice: Dice) -> str:
    trade, thing, place = _the(dice.of(TRADES)), _the(dice.of(THINGS)), dice.of(PLACES)
    how = agreeing(dice.of(ADJECTIVES), place)
    choices = (
        f"porque nadie {_verb(dice, 'was')} {thing}", f"aunque {_the(place)} estaba {how}",
        f"mientras {trade} {_verb(dice, 'was')} {thing}", f"y los vecinos {_verb(dice, 'were')} {thing}",
        f"para que {trade} {_verb(dice, 'may')} {thing}", f"pues {trade} {_verb(dice, 'will')} {thing}",
    )  # fmt: skip
    return dice.of(choices)


def _plural(word: str) -> str:
    if word.endswith(("as", "es", "os", "us")):
        return word
    if word.endswith("z"):
        return word[:-1] + "ces"
    for accented, bare in (("ón", "on"), ("ín", "in"), ("én", "en")):
        if word.endswith(accented):
            return word[:-2] + bare + "es"
    return word + ("s" if word[-1] in "aeioué" else "es")
