#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes long-context tasks of the RULER kinds and scores what a model answers.

usage: ruler.py make OUT.jsonl [--tasks NAME ...] [--lengths N ...] [--samples N] [--seed N]
                [--count COMMAND] [--essay FILE] [--chat [--system TEXT]]
       ruler.py select TASKS.jsonl OUTPUTS.jsonl ... --out FILE.jsonl [--above S]
       ruler.py score TASKS.jsonl OUTPUTS.jsonl ... [--csv FILE]
       ruler.py --self-test

The kinds, their sizes and the metric are those of RULER (arXiv 2404.06654); wording, words, filler
and documents are this file's own, so scores are comparable within it only. tasks.md says what each
task is and what stands in the files. The standard library is enough.
"""
import argparse
import csv
import json
import math
import os
import random
import re
import shlex
import statistics
import subprocess
import sys
import uuid

ADJECTIVES = """
amber ancient ardent arid austere azure blunt bold brisk brittle bronze calm candid careful
cheerful chilly civil clever cloudy coarse copper cosy crimson crisp curious dapper daring deep
distant dusty eager early earnest elegant faint fair famous fancy feeble fertile fierce flat fluent
fond formal frank fresh frosty frugal gentle giant gilded glad gloomy golden graceful grand grave
green hardy hasty hidden hollow honest humble icy idle jolly keen kind large lavish lean lively
lofty lonely loud loyal lucid mellow merry mighty mild modest muddy narrow neat nimble noble novel
odd olive pale patient placid plain polite proud prudent quaint quiet rapid rare ready rigid ripe
robust rough round rural rustic sandy scarlet serene shady sharp shiny silent silver simple sincere
sleek slender smooth snowy sober solemn solid sturdy subtle sunny supple swift tall tame tawny
tender thrifty tidy tiny tranquil upright urban vast velvet violet vivid warm wary wealthy wild
wise witty wooden young zesty
""".split()
NOUNS = """
acorn almond anchor anvil apron arch arrow atlas attic badge bakery balcony bamboo banner barge
barrel basin basket beacon beaker bell bench bicycle blanket blossom boat bonfire bottle boulder
bracelet branch brick bridge broom bucket buckle butter button cabin cabinet cable camel canal
candle canoe canvas carpet cart castle cedar cellar chain chalk chapel cherry chest chimney cider
circus clay cliff cloak clock clover coach cobweb coffee compass copse coral cork cottage cradle
crane crate creek cricket crown curtain cushion dagger dairy desk diary dome donkey door dove
drawer drum easel eagle elbow ember engine fable falcon farm feather fence fern ferry fiddle field
flask fleece flute forest forge fossil fountain fox gallery garden garlic gate glacier glove goblet
goose granary grape gravel guitar hammer hammock harbour harp hazel hedge helmet heron hill hinge
honey hood hook horn hotel iceberg inkwell island ivy jacket jar jetty jewel kettle kite kitten
knot ladder lagoon lake lamp lantern larch lawn leather ledger lemon letter library lighthouse
lilac linen lizard locket loom magnet mallet maple marble market mast meadow medal melon mill
mirror mitten moat monument mosaic moss mountain mug museum napkin necklace needle nest nettle
notebook oar oasis oboe ocean onion orchard organ otter oven owl paddle page palace parade parcel
parrot pasture pebble pencil pepper piano pier pigeon pillow pitcher plank plough pocket pond poppy
porch portrait postcard potter pulley puppet quarry quill quilt rabbit raft railway raven reed
ribbon ring river robin rope rudder saddle sail salmon sandal satchel saucer scarf sculpture shawl
shell shelf ship shovel shrine sickle sketch sledge slipper sparrow spindle spoon spruce squirrel
stable staircase statue stove stream summit swan table tapestry teapot temple tent theatre thimble
thistle throne ticket timber tower trail tractor trellis trophy trumpet tulip tunnel turnip turtle
umbrella vase veranda village vineyard violin wagon wallet walnut waterfall weasel wharf wheel
whistle willow windmill window winter wren yacht yarn
""".split()
VERBS = """
admire adopt advise answer argue arrange arrive assemble assist balance barter borrow bounce build
carry carve celebrate chase choose climb collect combine compare complain compose count cultivate
dance decide declare decorate deliver describe discover divide dream drift enquire escape examine
exchange explain explore fetch fold follow forgive gather govern greet grumble hesitate hurry
imagine imitate improve inspect invent invite juggle kneel launch listen linger measure mend murmur
navigate nourish observe obtain occupy oppose paint persuade plant polish ponder prepare promise
protect provide pursue quarrel quote realise recite refuse remember repair replace rescue resemble
restore return reveal scatter search shelter shiver skate smile solve sprinkle stumble suggest
support surround swallow tease tempt travel tremble unfold unite vanish visit wander whisper wonder
worry
""".split()
FIRST_NAMES = """
Ada Agnes Albin Alma Anton Arvid Astrid Basil Beata Bruno Cecil Clara Conrad Cora Cyril Dora Edgar
Edith Elmer Elsa Emil Enid Erwin Esther Felix Flora Frida Georg Greta Hugo Ida Ingrid Ivo Jasper
Judith Julius Karin Konrad Lena Leopold Lorenz Lydia Magnus Marta Mina Nora Oscar Otto Petra
Quentin Ralph Rosa Rufus Selma Silas Sonja Tilda Tobias Ursula Viktor Vera Walter Wanda Willa Xaver
Yngve
""".split()
LAST_NAMES = """
Abelard Alder Arkwright Ashby Barlow Beckett Bergson Birch Blom Brandt Calder Carver Colby Crane
Dahl Darnell Denholm Drax Easton Ekman Ellery Falk Farrow Fenwick Forsberg Gaunt Gilroy Grove Hale
Hartwell Hedlund Holm Ibsley Jarvis Keswick Kirk Lanning Larkin Lindqvist Lowell Marsh Merrick Moor
Nash Norling Oakes Ogilvy Pell Pryce Quill Radford Reeve Rook Sandoz Selby Stroud Tamm Thorne
Tyrell Umber Vane Voss Wexford Whitlock Wrede Yarrow Zander
""".split()
TOWN_STARTS = """
Alder Ash Barrow Beck Brack Bram Carn Chel Cray Dal Dun Elm Fen Glen Gran Hather Hol Ives Kel Lang
Lin Mar Mel Nor Oxen Pen Quarn Raven Ros Sel Stan Tam Thorn Ul Ven Wether Wyn Yar
""".split()
TOWN_ENDS = """
bridge bury combe ford gate ham holt hurst mere mouth ness stead stow ton wick worth
""".split()
TRADES = """
architect astronomer baker bookbinder botanist cartographer chemist clockmaker composer doctor
engineer engraver geologist historian illustrator jeweller journalist lawyer librarian painter
photographer poet printer sculptor shipbuilder surveyor teacher translator weaver zoologist
""".split()
INSTITUTES = """
Academy Aquarium Archive Brewery Choir Ferry Foundry Gallery Herbarium Hospital Library Museum
Observatory Orchestra Press Railway Shipyard Theatre University Workshop
""".split()

NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
DEPTHS = 40  # even positions of a needle in an essay
# What the chat template of SmolLM2-Instruct says where nothing else is asked.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class Example:
    """A prompt in parts. `question` begins where a reader who knows the task may stop reading."""

    def __init__(self, context, question, prefix, answers):
        self.context, self.question, self.prefix = context, question, prefix
        self.answers = answers

    def prompt(self, chat, system):
        """The whole prompt, and where the question begins in it."""
        before, after = self.context + "\n\n", " "
        if chat:  # ChatML
            before = f"<|im_start|>user\n{before}"
            if system:
                before = f"<|im_start|>system\n{system}<|im_end|>\n{before}"
            after = "<|im_end|>\n<|im_start|>assistant\n"
        return before + self.question + after + self.prefix, len(before)


class Source:
    """Where a sample's words come from: random numbers, filler, the asked length in tokens."""

    def __init__(self, rng, sentences, length):
        self.rng, self.sentences, self.length = rng, sentences, length

    def essay(self, count):
        """Sentences of the essay file from a random one on, or generated ones."""
        if not self.sentences:
            return [filler(self.rng) for _ in range(count)]
        first = self.rng.randrange(len(self.sentences))
        return [self.sentences[(first + i) % len(self.sentences)] for i in range(count)]

    def keys(self, count):
        """Distinct adjective-noun pairs."""
        pairs = self.rng.sample(range(len(ADJECTIVES) * len(NOUNS)), count)
        return [f"{ADJECTIVES[i // len(NOUNS)]}-{NOUNS[i % len(NOUNS)]}" for i in pairs]

    def values(self, kind, count):
        if kind == "uuids":
            return [str(uuid.UUID(int=self.rng.getrandbits(128), version=4)) for _ in range(count)]
        return [str(i) for i in self.rng.sample(range(1_000_000, 10_000_000), count)]


SENTENCES = (
    "The {a} {n} stood beside the {n2} until the {n3} was ready.",
    "In the {a} season nobody in the village would {v} without a {n}.",
    "It is easy to {v} a {n} when the {n2} is {a}.",
    "She had learnt to {v} and to {v2}, but the {n} remained {a}.",
    "Beyond the {n} lay a {a} road, and beyond the road a {n2}.",
    "They would {v} every evening, and the {a} {n} was never mentioned.",
    "A {n} without a {n2} is {a} company for anyone who likes to {v}.",
    "When the {n} was {a}, the keeper went out to {v} the {n2}.",
    "His brother, who was {a} and {a2}, preferred to {v} near the {n}.",
    "Nothing about the {n} was {a}, although the {n2} had been.",
    "People say that a {a} {n} teaches one to {v} and to {v2}.",
    "The old {n} was sold for the price of a {n2} and a {a} promise.",
    "From the {n} one could see the {a} {n2} and hear the {n3}.",
    "Whoever means to {v} must first {v2}, and that is a {a} business.",
    "Some of the visitors would {v} the {n}; the {a} ones would only {v2}.",
    "After the rain the {n} smelt of {n2} and the path was {a}.",
)


def filler(rng):
    """A sentence that says nothing, without digits."""
    a, n, v = (rng.sample(words, 3) for words in (ADJECTIVES, NOUNS, VERBS))
    return rng.choice(SENTENCES).format(a=a[0], a2=a[1], n=n[0], n2=n[1], n3=n[2], v=v[0], v2=v[1])


# Retrieval --------------------------------------------------------------------------------------


def listed(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def retrieval(haystack, kind, key_kind="words", keys=1, values=1, asked=1):
    """`keys` keys of `values` values each, in filler or among needles; `asked` of them matter."""

    def build(source, size):
        rng = source.rng
        count = size if haystack == "needles" else keys
        names = source.values("uuids", count) if key_kind == "uuids" else source.keys(count)
        numbers = source.values(kind, count * values)
        needles = [NEEDLE.format(kind=kind, key=names[i // values], value=number)
                   for i, number in enumerate(numbers)]
        wanted = sorted(rng.sample(range(count), asked))
        if haystack == "needles":
            lines = needles
        elif haystack == "noise":
            lines = with_needles(rng, [NOISE] * size, needles, size)
        else:
            lines = with_needles(rng, source.essay(size), needles, DEPTHS)
        text = (" " if haystack == "essay" else "\n").join(lines)
        one = asked * values == 1
        what = kind[:-1] if one else kind
        asked_for = listed([names[i] for i in wanted])
        head = (f"Some special magic {kind} are hidden in the text below. Keep them in mind: you "
                f"will be asked about them.")
        question = (f"What {'is' if one else 'are all'} the special magic {what} for {asked_for} "
                    f"that the text above mentions?")
        prefix = (f"The special magic {what} for {asked_for} that the text mentions "
                  f"{'is' if one else 'are'}")
        answers = [numbers[i * values + j] for i in wanted for j in range(values)]
        return Example(f"{head}\n\n{text}", question, prefix, answers)

    return build


def with_needles(rng, lines, needles, depths):
    """Needles in random order at distinct depths (if there are so many) between the lines."""
    count = min(depths, len(lines) + 1)
    places = rng.sample(range(count), len(needles)) if count >= len(needles) else [
        rng.randrange(count) for _ in needles]
    needles = rng.sample(needles, len(needles))
    places = [place * len(lines) // max(1, count - 1) for place in places]
    out = list(lines)
    for place, needle in sorted(zip(places, needles), reverse=True):
        out.insert(place, needle)
    return out


# Tracing ----------------------------------------------------------------------------------------

HOPS = 4


def chain(rng, size):
    """Noise with a value that is handed on from name to name; the value and the names."""
    names = []
    while len(names) < HOPS + 1:
        name = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(5))
        if name not in names:
            names.append(name)
    value = str(rng.randrange(10_000, 100_000))
    steps = [f"VAR {names[0]} = {value}"]
    steps += [f"VAR {names[i + 1]} = VAR {names[i]} " for i in range(HOPS)]
    lines = [NOISE] * size
    places = sorted(rng.sample(range(size + 1), len(steps)))
    for place, step in reversed(list(zip(places, steps))):
        lines.insert(place, step)
    return "\n".join(lines), value, names


def tracing(source, size):
    def parts(size):
        text, value, names = chain(source.rng, size)
        context = ("Follow the assignments to variables that are hidden in the text below.\n\n"
                   + text)
        question = f"Question: Which variables have the value {value} in the text above?"
        prefix = (f"Answer: By the assignments in the text above, {len(names)} variables have the "
                  f"value {value}:")
        return context, question, prefix, names

    context, question, prefix, names = parts(HOPS + 1)
    worked = f"{context}\n\n{question} {prefix} {' '.join(names)}"
    context, question, prefix, names = parts(size)
    return Example(f"{worked}\n\n{context}", question, prefix, names)


# Aggregation ------------------------------------------------------------------------------------

COMMON = 10


def common_words(source, size):
    """A numbered list in which ten words stand more often; `size` is how many others there are."""
    often, seldom = (30, 3) if source.length >= 4096 else (6, 1)
    few = (10, 3, 30) if source.length >= 4096 else (3, 1, 10)
    words = sorted({*ADJECTIVES, *NOUNS, *VERBS})
    more = size + few[2] + 2 * COMMON - len(words)
    source.rng.shuffle(words)
    if more > 0:
        words += source.keys(more)

    def parts(size, often, seldom):
        common = [words.pop() for _ in range(COMMON)]
        entries = common * often + [words.pop() for _ in range(size)] * seldom
        source.rng.shuffle(entries)
        numbered = " ".join(f"{i}. {word}" for i, word in enumerate(entries, 1))
        context = ("Below is a numbered list of words. Some of them stand in it more often than "
                   "the others. Keep those in mind.\n\n" + numbered)
        question = f"Question: Which {COMMON} words stand most often in the list above?"
        return context, question, f"Answer: The {COMMON} words that stand most often are:", common

    # The worked example takes its words first, so that they do not depend on the size.
    context, question, prefix, common = parts(few[2], few[0], few[1])
    worked = f"{context}\n\n{question} {prefix} " + " ".join(
        f"{i}. {word}" for i, word in enumerate(common, 1))
    context, question, prefix, common = parts(size, often, seldom)
    return Example(f"{worked}\n\n{context}", question, prefix, common)


def frequent_words(source, size):
    """Coded words with frequencies by Zipf's law, exponent 2; `size` words if it had no end."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = []
    while len(vocabulary) < max(8, source.length // 50):
        word = "".join(source.rng.choice(letters) for _ in range(6))
        if word not in vocabulary:
            vocabulary.append(word)
    counts = [int(size / rank**2 / (math.pi**2 / 6)) for rank in range(1, len(vocabulary) + 1)]
    entries = []
    for rank, (word, count) in enumerate(zip(vocabulary, counts)):
        entries += ["..." if rank == 0 else word] * count
    source.rng.shuffle(entries)
    context = ("The text below is coded. Count how often each coded word stands in it; the dots "
               "do not matter.\n\n" + " ".join(entries))
    question = "Question: Which three coded words stand most often in the text above?"
    prefix = "Answer: The three coded words that stand most often are:"
    return Example(context, question, prefix, vocabulary[1:4])


# Questions --------------------------------------------------------------------------------------


class World:
    """People, towns and institutes that do not exist, no name twice."""

    def __init__(self, rng, people):
        self.rng = rng
        if people > len(FIRST_NAMES) * len(LAST_NAMES):
            raise ValueError("more people than names")
        names = rng.sample(range(len(FIRST_NAMES) * len(LAST_NAMES)), people)
        self.people = [f"{FIRST_NAMES[i % len(FIRST_NAMES)]} {LAST_NAMES[i // len(FIRST_NAMES)]}"
                       for i in names]
        self.towns = [start + end for start in TOWN_STARTS for end in TOWN_ENDS]
        rng.shuffle(self.towns)
        every = len(self.towns) * len(INSTITUTES)
        self.institutes = [(self.towns[i // len(INSTITUTES)], INSTITUTES[i % len(INSTITUTES)])
                           for i in rng.sample(range(every), min(people, every))]

    def person(self, i):
        """A life in a few sentences, and its facts."""
        rng = self.rng
        name, (seat, kind) = self.people[i], self.institutes[i % len(self.institutes)]
        home, school = rng.sample([town for town in self.towns[:400] if town != seat], 2)
        born = rng.randrange(1780, 1930)
        trade, second = rng.sample(TRADES, 2)
        thing = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
        facts = {"home": home, "born": str(born), "trade": trade, "institute": f"{seat} {kind}",
                 "school": school}
        sentences = [
            f"{name} was born in {home} in {born}.",
            rng.choice((f"After some years at school in {school}, {name.split()[0]} became "
                        f"{article(trade)}.",
                        f"The family moved to {school}, where the child was trained to become "
                        f"{article(trade)}.")),
            f"In {born + rng.randrange(25, 45)} {name.split()[1]} founded the {seat} {kind} and "
            f"led it for {rng.choice(('six', 'nine', 'eleven', 'fourteen', 'twenty'))} years.",
            rng.choice((f"A friend, {article(second)}, gave the place {article(thing)} that can "
                        f"still be seen there.",
                        f"Letters to {article(second)} tell of {article(thing)} that was lost on "
                        f"a journey.")),
            filler(rng),
        ]
        return " ".join(sentences), facts

    def institute(self, i):
        """An institute's history, which names its founder and nothing else about him or her."""
        rng = self.rng
        (seat, kind), founder = self.institutes[i % len(self.institutes)], self.people[i]
        since = rng.randrange(1810, 1975)
        return " ".join((
            f"The {seat} {kind} was founded by {founder}.",
            f"Its house, {article(rng.choice(ADJECTIVES))} building near the "
            f"{rng.choice(NOUNS)}, was finished in {since}.",
            f"Every {rng.choice(('spring', 'summer', 'autumn', 'winter'))} it shows "
            f"{article(rng.choice(ADJECTIVES))} {rng.choice(NOUNS)} to the people of {seat}.",
            filler(rng)))


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def asked_about(who, facts):
    """Questions about somebody, how their answers begin, and what they are."""
    start = who[0].upper() + who[1:]
    return [
        (f"In which town was {who} born?", f"{start} was born in the town of", facts["home"]),
        (f"In which year was {who} born?", f"{start} was born in the year", facts["born"]),
        (f"What was the trade of {who}?", f"{start} became", facts["trade"]),
    ]


def question_example(rng, documents, question, start, answer):
    rng.shuffle(documents)
    text = "\n\n".join(f"Document {i}:\n{document}" for i, document in enumerate(documents, 1))
    context = f"Answer the question by what the documents below say.\n\n{text}"
    return Example(context, f"Question: {question}", f"Answer: {start}", [answer])


def question_one(source, size):
    """One document has the answer."""
    world = World(source.rng, size)
    lives = [world.person(i) for i in range(size)]
    name, facts = world.people[0], lives[0][1]
    asked = asked_about(name, facts)
    asked.append((f"What did {name} found?", f"{name} founded the", facts["institute"]))
    return question_example(source.rng, [text for text, _ in lives], *source.rng.choice(asked))


def question_two(source, size):
    """One document names the founder of an institute, another one where the founder was born."""
    rng = source.rng
    world = World(rng, size)
    documents, facts = [], []
    for i in range(size):
        text, known = world.person(i)
        facts.append(known)
        # Who founded what stands in the institute's document alone.
        documents.append(re.sub(r" In \d{4} \w+ founded [^.]*\.", "", text))
        documents.append(world.institute(i))
    seat, kind = world.institutes[0]
    asked = asked_about(f"the founder of the {seat} {kind}", facts[0])
    return question_example(rng, documents, *rng.choice(asked))


# Tasks ------------------------------------------------------------------------------------------


class Task:
    """`coded`: tokens by a tokenizer over those estimated, where the text is not of words."""

    def __init__(self, build, answer_tokens, least, metric="all", coded=1.0):
        self.build, self.answer_tokens, self.least = build, answer_tokens, least
        self.metric, self.coded = metric, coded


TASKS = {
    "niah_single_1": Task(retrieval("noise", "numbers"), 128, 1),
    "niah_single_2": Task(retrieval("essay", "numbers"), 128, 1),
    "niah_single_3": Task(retrieval("essay", "uuids"), 128, 1),
    "niah_multikey_1": Task(retrieval("essay", "numbers", keys=4), 128, 4),
    "niah_multikey_2": Task(retrieval("needles", "numbers"), 128, 2),
    "niah_multikey_3": Task(retrieval("needles", "uuids", key_kind="uuids"), 128, 2,
                            coded=1.04),
    "niah_multivalue": Task(retrieval("essay", "numbers", values=4), 128, 4),
    "niah_multiquery": Task(retrieval("essay", "numbers", keys=4, asked=4), 128, 4),
    "vt": Task(tracing, 30, HOPS),
    "cwe": Task(common_words, 120, 1),
    "fwe": Task(frequent_words, 50, 60, coded=1.93),
    "qa_1": Task(question_one, 32, 2, "any"),
    "qa_2": Task(question_two, 32, 2, "any"),
}


# Lengths ----------------------------------------------------------------------------------------

PIECE = re.compile(r" ?[^\W\d_]+|\d| ?[^\w\s]+|\s+(?!\S)|\s+|_")


def estimated_tokens(text):
    """About what a byte-pair tokenizer of some 50,000 tokens makes that splits numbers up."""
    count = 0.0
    for piece in PIECE.findall(text):
        letters = len(piece.strip())
        count += 1.0 if letters <= 4 or not piece.strip().isalpha() else 1.0 + (letters - 4) * 0.12
    return math.ceil(count)


class Counter:
    """Counts tokens by a command: one text a line as a JSON string in, one number a line out."""

    def __init__(self, command):
        self.command = command
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def __call__(self, text):
        try:
            self.process.stdin.write(json.dumps(text) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError as error:
            raise SystemExit(f"ruler.py: {self.command}: {error}") from error
        if not answer.strip().isdigit():
            raise SystemExit(f"ruler.py: {self.command}: want a number a line, got {answer!r}")
        return int(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def largest(room, tokens_at, least, guess):
    """The largest size with tokens_at(size) <= room, or nearly: 2 % of the room may stay empty."""
    low, at_low = least, tokens_at(least)
    if at_low > room:
        return None
    high, at_high = None, None
    size = max(guess, least + 1)
    for _ in range(24):
        at_size = tokens_at(size)
        if at_size <= room:
            low, at_low = size, at_size
        else:
            high, at_high = size, at_size
        if at_low >= 0.98 * room and high is None or high == low + 1:
            break
        if high is None:
            size = max(low + 1, int(low * min(4.0, 0.995 * room / at_low)))
        else:
            if at_low >= 0.98 * room:
                break
            size = low + int((high - low) * (0.99 * room - at_low) / (at_high - at_low))
            size = min(max(size, low + 1), high - 1)
    return low


def read_sentences(path):
    with open(path, encoding="utf-8") as file:
        text = " ".join(file.read().split())
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", text) if part]
    if len(sentences) < 20:
        raise SystemExit(f"ruler.py: {path}: want 20 sentences or more, got {len(sentences)}")
    return sentences


def make_samples(name, length, samples, seed, count=None, sentences=None, chat=False, system=""):
    """Records of a task at a length. Prompt and answer together have at most `length` tokens."""
    task, guess = TASKS[name], 0
    room = length - task.answer_tokens
    if count is None:
        def count(text):
            return math.ceil(task.coded * estimated_tokens(text))
    for number in range(samples):
        key = f"{seed}/{name}/{length}/{number}"

        def example(size, key=key):
            return task.build(Source(random.Random(key), sentences, length), size)

        def tokens_at(size):
            return count(example(size).prompt(chat, system)[0])

        size = largest(room, tokens_at, task.least, guess)
        if size is None:
            raise SystemExit(f"ruler.py: {name}: {length} tokens are too few: the smallest prompt "
                             f"has {tokens_at(task.least)} and its answer {task.answer_tokens}")
        guess = size
        found = example(size)
        prompt, question_at = found.prompt(chat, system)
        yield {"task": name, "length": length, "id": f"{name}-{length}-{number:03d}",
               "prompt": prompt, "question_at": question_at, "answers": found.answers,
               "metric": task.metric, "answer_tokens": task.answer_tokens, "tokens": count(prompt)}


def make(asked):
    names = asked.tasks or list(TASKS)
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise SystemExit(f"ruler.py: unknown task {unknown[0]}: want {', '.join(TASKS)}")
    if min(asked.lengths) < 256 or asked.samples < 1:
        raise SystemExit("ruler.py: want lengths of 256 tokens or more and one sample or more")
    sentences = read_sentences(asked.essay) if asked.essay else None
    counter = Counter(asked.count) if asked.count else None
    made = 0
    with open(asked.out, "w", encoding="utf-8") as out:
        for length in asked.lengths:
            for name in names:
                for record in make_samples(name, length, asked.samples, asked.seed, counter,
                                           sentences, asked.chat, asked.system):
                    out.write(json.dumps(record, ensure_ascii=False) + "\n")
                    made += 1
    if counter:
        counter.close()
    print(f"{asked.out}: {made} prompts, their tokens {'counted' if counter else 'estimated'}")


# Scores -----------------------------------------------------------------------------------------


def score_of(output, answers, metric):
    """`all`: the share of the answers that stand in the output; `any`: 1 if one does."""
    output = "".join(c if c.isprintable() else "\n" for c in output).strip().lower()
    found = [answer.lower() in output for answer in answers]
    if metric == "all":
        return sum(found) / len(found)
    if metric == "any":
        return float(any(found))
    raise ValueError(f"unknown metric {metric}")


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise SystemExit(f"ruler.py: {path}:{number}: {error}") from error


def error_of(values):
    """Standard error of the mean of independent values."""
    if len(values) < 2:
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))


def scores(tasks, outputs):
    """Rows of task, length, policy, score, dense_score, difference_error, n and of.

    Scores are means over the n of `of` ids that have an output; `dense_score` is the mean of policy `dense` over the same ids, `difference_error` the standard
    error of the mean difference to it; NaN where one of them lacks it or, the latter, n is 1.
    """
    known = {task["id"]: task for task in tasks}
    by_id = {}
    for output in outputs:
        if output["id"] not in known:
            raise ValueError(f"an output of an unknown id: {output['id']}")
        task = known[output["id"]]
        policy = output.get("policy", "dense")
        by_id.setdefault(policy, {})[output["id"]] = score_of(
            output["output"], task["answers"], task["metric"])
    dense = by_id.get("dense", {})
    groups = {}
    for task in known.values():
        groups.setdefault((task["task"], task["length"]), []).append(task["id"])
    rows = []
    for (task, length), ids in groups.items():
        for policy, found in by_id.items():
            mine = [name for name in ids if name in found]
            if not mine:
                continue
            both = all(name in dense for name in mine)
            rows.append({
                "task": task, "length": length, "policy": policy,
                "score": sum(found[name] for name in mine) / len(mine),
                "dense_score": sum(dense[name] for name in mine) / len(mine) if both else math.nan,
                "difference_error": error_of([found[name] - dense[name] for name in mine])
                if both else math.nan,
                "n": len(mine), "of": len(ids)})
    return rows


def scored(asked):
    """The tasks of a file, and rows of the scores of its outputs."""
    tasks = list(read_lines(asked.tasks))
    outputs = [line for path in asked.outputs for line in read_lines(path)]
    try:
        return tasks, scores(tasks, outputs)
    except (KeyError, ValueError) as error:
        what = f"a line has no {error}" if isinstance(error, KeyError) else str(error)
        raise SystemExit(f"ruler.py: {what}") from error


def select(asked):
    tasks, rows = scored(asked)
    able = {(row["task"], row["length"]) for row in rows
            if row["policy"] == "dense" and row["score"] > asked.above}
    with open(asked.out, "w", encoding="utf-8") as file:
        for task in tasks:
            if (task["task"], task["length"]) in able:
                file.write(json.dumps(task) + "\n")
    for name in sorted({name for name, _ in able}):
        print(name)


def score(asked):
    tasks, rows = scored(asked)
    print(f"{'task':<16} {'length':>7} {'policy':<28} {'score':>7} {'dense':>7} {'n':>5}")
    for row in rows:
        print(f"{row['task']:<16} {row['length']:>7} {row['policy']:<28} {row['score']:>7.3f} "
              f"{row['dense_score']:>7.3f} {row['n']:>5}")
    for row in rows:
        if row["n"] < row["of"]:
            print(f"ruler.py: {row['task']} {row['length']} {row['policy']}: "
                  f"{row['of'] - row['n']} of {row['of']} outputs are missing; the means leave them out", file=sys.stderr)
    if asked.csv:
        columns = ("task", "length", "policy", "score", "dense_score", "difference_error", "n")
        with open(asked.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


# Self-test --------------------------------------------------------------------------------------


def answer_of(prompt, name):
    """Answers a prompt by reading it as its text says; knows nothing of how it was made."""
    context, _, question = prompt.rpartition("\n\n")
    if name.startswith("niah"):
        asked = re.search(r"for (.*) that the text above mentions", question)[1]
        return [value for key in re.split(r", | and ", asked)
                for value in re.findall(rf" for {key} is: ([^ ]*)\.", context)]
    if name == "vt":
        names = [re.search(r"have the value (\d+) in", question)[1]]
        last = context.rpartition("hidden in the text below")[2]
        for left, right in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", last):
            if right in names:
                names.append(left)
        return names[1:]
    if name == "cwe":
        words = re.findall(r"\d+\. (\S+)", context.rpartition("Keep those in mind.")[2])
        return sorted(set(words), key=lambda word: -words.count(word))[:COMMON]
    if name == "fwe":
        words = re.findall(r"\b[a-z]{6}\b", context.rpartition("do not matter.")[2])
        return sorted(set(words), key=lambda word: -words.count(word))[:3]
    documents = re.split(r"\n\nDocument \d+:\n", context)[1:]
    if name == "qa_2":
        institute = re.search(r"founder of (the .*?)( born)?\?", question)[1]
        (person,) = re.findall(rf"{institute[0].upper()}{institute[1:]} was founded by (\w+ \w+)\.",
                               context)
    else:
        person = re.search(r"(?:was|of|did) (\w+ \w+)( born| found)?\?", question)[1]
    (document,) = [text for text in documents if text.startswith(f"{person} was born in ")]
    if "town" in question:
        return [re.search(r"born in (\w+) in", document)[1]]
    if "year" in question:
        return [re.search(r"born in \w+ in (\d+)", document)[1]]
    if "trade" in question:
        return [re.search(r"bec[ao]me an? (\w+)", document)[1]]
    return [re.search(r"founded the (\w+ \w+)", document)[1]]


def test_tasks():
    essay = ["Sentence " + "abcdefghij"[i % 10] + " of the essay." for i in range(50)]
    for name in TASKS:
        for length, sentences, chat in ((2048, None, False), (1024, essay, True),
                                        (4608, None, True)):
            records = list(make_samples(name, length, 3, 7, None, sentences, chat, "Hm."))
            again = list(make_samples(name, length, 3, 7, None, sentences, chat, "Hm."))
            assert records == again, f"{name}: not repeatable"
            assert len({record["prompt"] for record in records}) == 3
            for record in records:
                where = f"{record['id']}, chat {chat}"
                total = record["tokens"] + record["answer_tokens"]
                assert 0.9 * length < total <= length, (where, total)
                assert record["prompt"].startswith("<|im_start|>system\nHm.") == chat, where
                plain = record["prompt"].replace("<|im_end|>\n<|im_start|>assistant\n", " ")
                found = answer_of(plain, name)
                assert sorted(found) == sorted(record["answers"]), (where, found, record["answers"])
                question = record["prompt"][record["question_at"]:]
                assert question.split()[0] in ("What", "Question:"), (where, question)
                # Nothing after the context gives the answer away.
                assert score_of(question, record["answers"], record["metric"]) == 0.0, where
                right = ", ".join(record["answers"]).upper()
                assert score_of(right, record["answers"], record["metric"]) == 1.0, where
    first = next(make_samples("vt", 1024, 1, 1))
    other = next(make_samples("vt", 1024, 1, 2))
    assert first["prompt"] != other["prompt"], "the seed does nothing"
    try:
        list(make_samples("cwe", 256, 1, 1))
    except SystemExit as error:
        assert "too few" in str(error)
    else:
        raise AssertionError("cwe in 256 tokens")


def test_needles():
    rng = random.Random(1)
    for size in (1, 3, 50, 500):
        lines = with_needles(rng, ["x"] * size, ["a", "b", "c"], DEPTHS)
        assert len(lines) == size + 3 and sorted(set(lines)) == ["a", "b", "c", "x"]
    ends = {with_needles(rng, ["x"] * 100, ["a"], DEPTHS).index("a") for _ in range(2000)}
    assert len(ends) == DEPTHS and min(ends) == 0 and max(ends) == 100


def test_sources():
    source = Source(random.Random(1), ["a.", "b.", "c."], 1024)
    assert sorted(source.essay(6)) == ["a.", "a.", "b.", "b.", "c.", "c."]
    assert not re.search(r"[\d{}]", " ".join(Source(source.rng, None, 1024).essay(200)))
    text, value, names = chain(source.rng, 30)
    steps = re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", text)
    assert steps == list(zip(names, [value, *names])), "a chain hands its value from name to name"


def test_largest():
    assert largest(100, lambda size: 10 + 3 * size, 1, 0) in (29, 30)
    assert largest(100, lambda size: 10 + 3 * size, 1, 500) in (29, 30)
    assert largest(100, lambda size: 101, 1, 0) is None
    assert largest(100, lambda size: 60 * size, 1, 0) == 1


def test_scores():
    assert score_of("It is 12 and 34.", ["12", "34", "56", "78"], "all") == 0.5
    assert score_of("ABc\x00d", ["abc", "D", "c\nd"], "all") == 1.0
    assert score_of("no", ["yes", "No"], "any") == 1.0
    assert score_of("", ["yes"], "any") == 0.0
    try:
        score_of("", ["a"], "most")
    except ValueError:
        pass
    else:
        raise AssertionError("an unknown metric was taken")
    tasks = [{"id": f"vt-1024-{i:03d}", "task": "vt", "length": 1024, "answers": ["A", "B"],
              "metric": "all"} for i in range(3)]
    outputs = [{"id": "vt-1024-000", "output": "a b"}, {"id": "vt-1024-001", "output": "b"},
               {"id": "vt-1024-000", "output": "-", "policy": "p"},
               {"id": "vt-1024-001", "output": "a b", "policy": "p"},
               {"id": "vt-1024-002", "output": "a", "policy": "q"}]
    rows = {row["policy"]: row for row in scores(tasks, outputs)}
    assert rows["dense"]["score"] == rows["dense"]["dense_score"] == 0.75
    assert rows["p"]["score"] == 0.5 and rows["p"]["dense_score"] == 0.75 and rows["p"]["n"] == 2
    assert math.isclose(rows["p"]["difference_error"], 0.75) and rows["p"]["of"] == 3
    assert math.isnan(rows["q"]["dense_score"]) and rows["q"]["n"] == 1
    try:
        scores(tasks, [{"id": "vt-1024-999", "output": ""}])
    except ValueError:
        pass
    else:
        raise AssertionError("an unknown id was scored")


def test_counter():
    program = "import sys, json\nfor x in sys.stdin: print(len(json.loads(x)), flush=True)"
    counter = Counter(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}")
    assert [counter("abc\n\"d"), counter("é")] == [6, 1]
    counter.close()
    counter = Counter(f"{shlex.quote(sys.executable)} -c 'print(\"no\")'")
    try:
        counter("abc")
    except SystemExit as error:
        assert "want a number" in str(error) or "Broken pipe" in str(error)
    else:
        raise AssertionError("a bad count was taken")
    counter.process.wait()


def self_test():
    assert len({*ADJECTIVES, *NOUNS, *VERBS}) == len(ADJECTIVES) + len(NOUNS) + len(VERBS)
    assert len(TOWN_STARTS) * len(TOWN_ENDS) >= 400
    for test in (test_largest, test_needles, test_sources, test_scores, test_counter, test_tasks):
        test()
    print("ruler.py: self-test passed")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=__doc__.partition("\n\n")[2])
    commands = parser.add_subparsers(dest="command", required=True)
    makes = commands.add_parser("make", help="write prompts")
    makes.add_argument("out", metavar="OUT.jsonl")
    makes.add_argument("--tasks", nargs="+", metavar="NAME", help=" ".join(TASKS))
    makes.add_argument("--lengths", nargs="+", type=int, default=[1024, 2048, 4096, 8192],
                       metavar="N", help="tokens of prompt and answer (1024 2048 4096 8192)")
    makes.add_argument("--samples", type=int, default=20, metavar="N",
                       help="for each task and length (20)")
    makes.add_argument("--seed", type=int, default=1, metavar="N")
    makes.add_argument("--count", metavar="COMMAND", help="counts tokens: a JSON string a line in, "
                       "a number a line out; without it they are estimated")
    makes.add_argument("--essay", metavar="FILE", help="text to hide needles in; without it "
                       "generated sentences")
    makes.add_argument("--chat", action="store_true", help="wrap prompts in ChatML")
    makes.add_argument("--system", metavar="TEXT", default=SYSTEM,
                       help="the system's message in ChatML")
    judges = commands.add_parser("score", help="score outputs")
    judges.add_argument("tasks", metavar="TASKS.jsonl")
    judges.add_argument("outputs", nargs="+", metavar="OUTPUTS.jsonl")
    judges.add_argument("--csv", metavar="FILE", help="write the rows that report.py reads")
    selects = commands.add_parser("select", help="write the prompts of the tasks and lengths that "
                                  "the dense model can do, and print the names of these tasks")
    selects.add_argument("tasks", metavar="TASKS.jsonl")
    selects.add_argument("outputs", nargs="+", metavar="OUTPUTS.jsonl")
    selects.add_argument("--out", required=True, metavar="FILE.jsonl")
    selects.add_argument("--above", type=float, default=0.3, metavar="S",
                         help="least mean score of dense, not itself included (0.3)")
    asked = parser.parse_args()
    try:
        {"make": make, "select": select, "score": score}[asked.command](asked)
    except OSError as error:
        sys.exit(f"ruler.py: {error.filename}: {os.strerror(error.errno)}")


if __name__ == "__main__":
    main()
