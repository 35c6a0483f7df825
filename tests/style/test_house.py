"""The house's own rules, where no linter has one: sizes, names, what the repository may hold, what must be listed."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHON_FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])

FILE_CEILING = 450
FUNCTION_CEILING = 70
#: A test may hold a table of what is expected.
TEST_CEILING = 100
NAMES_OF_NOTHING = {"base", "common", "helper", "helpers", "misc", "util", "utils"}

#: Folders that tools and people fill and the repository does not hold; hidden ones beside ``.ci`` are left out too.
NOT_OURS = {"__pycache__", "build", "data", "dist", "node_modules"}

# Both are put together from parts, so that this file passes its own test.
MACHINE_PATHS = re.compile(r"(?<![\w.~$}])/" + r"(?:work|root|opt/(?:wheels|pypi[\w-]*))" + r"/")
REGISTRY_HOSTS = re.compile(
    "|".join(name + r"\." + top for name, top in [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "(?:org|com)")])
)

DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef


def short(path: Path) -> str:
    """The path as people of this repository write it."""
    return path.relative_to(ROOT).as_posix()


def repository_files(folder: Path = ROOT) -> Iterator[Path]:
    """Every text file that belongs to the repository, found without git so that an unpacked archive passes too."""
    for path in sorted(folder.iterdir()):
        if path.name in NOT_OURS or (path.name.startswith(".") and path.name not in {".ci", ".gitignore", ".github"}):
            continue
        if path.is_dir():
            yield from repository_files(path)
        elif b"\0" not in path.read_bytes()[:4096]:
            yield path


def matches(pattern: re.Pattern[str]) -> list[str]:
    """Where in the repository the pattern occurs, as ``file:line: text``."""
    found = []
    for path in repository_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        if pattern.search(text):
            lines = enumerate(text.splitlines(), start=1)
            found += [f"{short(path)}:{number}: {line.strip()}" for number, line in lines if pattern.search(line)]
    return found


def test_no_file_outgrows_its_noun() -> None:
    sizes = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON_FILES}
    assert {path: size for path, size in sizes.items() if size > FILE_CEILING} == {}


def test_every_function_fits_on_a_screen() -> None:
    too_long = []
    for path in PYTHON_FILES:
        ceiling = FUNCTION_CEILING if path.is_relative_to(ROOT / "src") else TEST_CEILING
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, DEFINITION):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > ceiling:
                    too_long.append(f"{short(path)}:{node.lineno}: {node.name} has {length} lines")
    assert too_long == []


def test_every_module_is_named_by_a_noun_of_its_own() -> None:
    nameless = [short(path) for path in PYTHON_FILES if NAMES_OF_NOTHING & {path.stem, path.parent.name}]
    assert nameless == []


def test_no_path_of_one_machine_stands_in_the_repository() -> None:
    assert matches(MACHINE_PATHS) == []


def test_no_registry_is_named_by_its_host() -> None:
    assert matches(REGISTRY_HOSTS) == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    decisions = {path.name for path in folder.glob("*.md")} - {"README.md"}
    listed = re.findall(r"\]\(([^)/]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert decisions
    assert sorted(listed) == sorted(decisions)


def test_every_link_between_our_documents_leads_somewhere() -> None:
    dead = []
    for path in repository_files():
        if path.suffix == ".md":
            text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            ours = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
            dead += [f"{short(path)}: {target}" for target in ours if not (path.parent / target).exists()]
    assert dead == []


def test_the_picture_of_the_layers_is_the_contract() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    picture = re.findall(r"```\n(.*?)\n```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [line.replace("noa.", "") for line in layers] in [drawn.splitlines() for drawn in picture]


def test_every_public_name_resolves() -> None:
    public: list[str] = importlib.import_module("noa").__all__
    assert "ModelManager" in public
    assert [name for name in public if not hasattr(importlib.import_module("noa"), name)] == []


def pins(file: str) -> dict[str, str]:
    """The pinned version by package of one of the files in ``requirements/``."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([A-Za-z0-9][\w.-]*)==([^\s;]+)", text, flags=re.MULTILINE)
    }


def test_the_pins_are_what_the_project_asks_for() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        document = tomllib.load(file)
    project = document["project"]
    asked = [
        *project["dependencies"],
        *project["optional-dependencies"]["local"],
        *document["build-system"]["requires"],
    ]
    pinned = pins("run.txt")
    for requirement in map(Requirement, asked):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}: run `make lock`"


def test_the_tests_run_with_the_versions_that_people_run() -> None:
    assert pins("run.txt").items() <= pins("test.txt").items()


@pytest.mark.parametrize("file", ["run.txt", "test.txt", "docs.txt"])
def test_every_pin_has_its_hashes_and_no_address(file: str) -> None:
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    # A package may be pinned more than once, for different versions of Python.
    assert {canonicalize_name(entry.partition("==")[0]) for entry in entries} == pins(file).keys()
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"://|^-", text, flags=re.MULTILINE)


def test_every_known_fault_has_the_tests_that_keep_it_out() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "known-faults.md").read_text(encoding="utf-8")))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert named
    assert named <= there


def test_the_map_names_every_room() -> None:
    rooms = {
        path.name
        for path in (ROOT / "src" / "noa").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    drawn = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert {room for room in rooms - {"version.py"} if room not in drawn} == set()
