"""The reference is what the code says, and nothing that people can use is without a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from scripts.reference import command_line, error_tree, http_api, json_schema, markdown, settings, state_picture
from scripts.reference.markdown import UndocumentedError
from scripts.reference.pages import PAGES

from noa.errors import AIProviderError
from noa.lifecycle.states import TRANSITIONS
from noa.models import ModelStatus

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_code_says(page: str) -> None:
    assert text_of(page) == PAGES[page](), "write it anew: python -m scripts.reference"


def test_every_page_of_the_reference_is_written_from_the_code() -> None:
    there = {path.relative_to(DOCS).as_posix() for path in (DOCS / "reference").iterdir()}
    assert there == {page for page in PAGES if page.startswith("reference/")}


def test_every_variable_that_the_code_names_is_among_the_settings() -> None:
    named = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in re.findall(r'"(NOA_[A-Z_]*[A-Z])"', path.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert {name for name in named if f"`{name}`" not in text_of("reference/settings.md")} == set()


def test_every_error_is_in_the_table() -> None:
    def below(error: type[AIProviderError]) -> Iterator[type[AIProviderError]]:
        for each in error.__subclasses__():
            yield each
            yield from below(each)

    ours = {error for error in below(AIProviderError) if error.__module__.startswith("noa.")}
    assert ours | {AIProviderError} == {error for error, _ in error_tree.tree(AIProviderError)}


def test_every_event_says_when_it_is_told() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| .+? \|(.*)\|$", text_of("events.md"), re.MULTILINE)
    assert len(rows) > 30
    assert [name for name, text in rows if not text.strip()] == []


def test_a_command_without_a_text_is_refused() -> None:
    with pytest.raises(UndocumentedError, match="noa dance"):
        command_line.described("dance", click.Command("dance"))


def test_an_option_without_a_text_is_refused() -> None:
    command = click.Command("dance", help="Dance.", params=[click.Option(["--slowly"])])
    with pytest.raises(UndocumentedError, match=r"--slowly of “noa dance”"):
        command_line.described("dance", command)


def test_a_route_or_a_parameter_without_a_text_is_refused() -> None:
    operation: dict[str, object] = {"responses": {}}
    with pytest.raises(UndocumentedError, match="GET /dance"):
        http_api.route("GET", "/dance", operation, {})
    operation |= {"summary": "Dance.", "parameters": [{"name": "tempo", "in": "query", "schema": {}}]}
    with pytest.raises(UndocumentedError, match="tempo of GET /dance"):
        http_api.route("GET", "/dance", operation, {})


def test_a_setting_without_a_text_is_refused() -> None:
    with pytest.raises(UndocumentedError, match="tempo of Dance"):
        settings.fields(None, {"properties": {"tempo": {"type": "integer"}}}, {}, "Dance")


def test_a_docstring_becomes_markdown() -> None:
    docstring = """What ``x`` is, ``auto:<name>`` or <this>::

        with x:
            pass

    More.
    """
    assert markdown.prose(docstring, "x") == (
        "What `x` is, `auto:<name>` or \\<this>:\n\n```python\nwith x:\n    pass\n```\n\nMore."
    )


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1024}, "integer, 1 to 1,024"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"type": "array", "items": {"$ref": "#/$defs/Word"}}, "list of `a`, `b`"),
        ({"type": "object", "additionalProperties": {"$ref": "#/$defs/Thing"}}, "by name: [Thing](#thing)"),
        ({"type": "string", "format": "date"}, "day"),
        ({}, "any value"),
    ],
)
def test_a_schema_is_said_in_words(schema: json_schema.Schema, words: str) -> None:
    definitions: dict[str, json_schema.Schema] = {"Word": {"enum": ["a", "b"]}, "Thing": {"properties": {}}}
    assert json_schema.words(schema, definitions) == words


def test_the_picture_shows_every_state_and_every_move() -> None:
    picture = ElementTree.fromstring(state_picture.picture())
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    arrows = list(picture.iter("{http://www.w3.org/2000/svg}path"))
    assert set(ModelStatus) <= set(texts)
    assert all(texts.count(move) == sum(each == move for _, each in TRANSITIONS) for _, move in TRANSITIONS)
    assert len(arrows) == 1 + len({(before, after) for (before, _), after in TRANSITIONS.items()})
