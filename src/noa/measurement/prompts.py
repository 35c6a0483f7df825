"""The prompts of a profile: plain tasks about made-up notes, none of which any cache has seen. Pure."""

from __future__ import annotations

#: How many characters of these prompts make a token, about: for estimates alone.
CHARACTERS_PER_TOKEN = 4

_TASKS = (
    "Summarise the following notes in two sentences.",
    "List the three most important facts in these notes, one per line.",
    "Explain these notes to a child of ten.",
    "Write a friendly reply to whoever sent these notes.",
    "Say what is missing from these notes, and why it matters.",
    "Turn these notes into a short announcement.",
    "Which of these notes would you doubt first? Answer in a sentence or two.",
)

_NOTES = (
    (
        "The ferry leaves the north pier at seven in the morning and returns after sunset, except on Mondays, when the "
        "crew paints the hull and nobody crosses the bay."
    ),
    (
        "A bakery on the corner sells out of rye bread before nine, so the neighbours take turns queueing and share "
        "what they bring home, with butter if there is any."
    ),
    (
        "The weather station on the hill lost its wind gauge in the storm; until the spare part arrives, the keeper "
        "looks at the flags in the harbour and writes down a guess."
    ),
    (
        "Seven families keep bees behind the old mill. In a dry summer each hive gives twelve jars of honey, in a wet "
        "one hardly five, and the mayor always buys the first."
    ),
    (
        "The library lends tools as well as books: drills, ladders and a sewing machine that must come back oiled. "
        "Late returns are paid for with an hour of repairing bindings."
    ),
    (
        "Two engineers disagree about the bridge. One wants to replace the cables now, the other to measure them for a "
        "year first; both agree that lorries should take the long way round."
    ),
)


def prompt(nonce: str, index: int, about_tokens: int | None = None) -> str:
    """The prompt of this number: a task and notes, of 40 to 300 tokens by turns, or of about as many as asked for.

    It begins with the nonce, since prompt caches match from the beginning.
    """
    head = f"[{nonce}-{index}] {_TASKS[index % len(_TASKS)]}"
    if about_tokens is None:
        return " ".join((head, *(_note(index + offset) for offset in range(1 + index % len(_NOTES)))))
    pieces, length, offset = [head], len(head), 0
    while length < about_tokens * CHARACTERS_PER_TOKEN:
        pieces.append(_note(index + offset))
        length += len(pieces[-1]) + 1
        offset += 1
    return " ".join(pieces)[: max(len(head), about_tokens * CHARACTERS_PER_TOKEN)]


def prompts(nonce: str, count: int) -> tuple[str, ...]:
    """So many different prompts of different lengths."""
    return tuple(prompt(nonce, index) for index in range(count))


def about_tokens(text: str) -> int:
    """How many tokens a prompt has, about."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _note(index: int) -> str:
    return _NOTES[index % len(_NOTES)]
