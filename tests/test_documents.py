"""The documents for a newcomer are true: terms, files, commands and options exist, and old words are gone."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from durable_streams import cli
from durable_streams.config.layers import OPTIONS
from tests.servers import ROOT

PACKAGE = ROOT / "durable_streams"
PAGES = (*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TERMS = re.findall(
    r"^\| ([^|]+) \| `([\w.]+)` \| (.+) \|$", ARCHITECTURE.partition("## Glossary")[2], re.MULTILINE
)

OLD_WORDS = re.compile(
    r"\b(incarnations?|renewed_at|Renew|Keeper|upkeep|_keep_up|give_turn|lanes?|BrowserHeaders|EarlyFS|"
    r"CurrentStorage|TakeReference|carry_out|HeldBytes|Overtaken|StreamsFirst|put_streams_first|settle_collector|"
    r"take_waiting_connections|when_stopping|GuardedBody|is_left_behind|one_line)\b|the short way|no harm"
)
"""Names and phrases that the code had once, and that mean nothing to whoever comes new."""
SOURCES = (*sorted(PACKAGE.rglob("*.py")), *PAGES, ROOT / "CHANGELOG.md", ROOT / "Makefile")

RUNS_PYTEST = re.compile(r"-m pytest (tests/\S+)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def names_in(module: Path) -> frozenset[str]:
    """`Class`, `function`, `CONSTANT` and `Class.member` of a module."""
    names: set[str] = set()

    def gather(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                gather(node.body, f"{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    gather(ast.parse(module.read_text(encoding="utf-8")).body, "")
    return frozenset(names)


def exists(dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = PACKAGE.joinpath(*parts[:count]).with_suffix(".py")
        if module.exists():
            return ".".join(parts[count:]) in names_in(module)
    return False


def options_of(words: list[str]) -> set[str]:
    """The options that the command of these words takes; raises StopIteration when there is no such command."""
    parser = argparse.ArgumentParser()
    next(known for known in cli.COMMANDS if known.name == words[0]).add_arguments(parser)
    own = set(OPTIONS) | {"--profile", "--config", "--version"} | set(parser._option_string_actions)
    for choices in [
        action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]:
        own |= set(choices[words[1]]._option_string_actions)
    return own


def test_the_glossary_has_its_terms() -> None:
    assert len(TERMS) > 25
    assert len({term for term, _, _ in TERMS}) == len(TERMS)


@pytest.mark.parametrize(("term", "dotted"), [(term, dotted) for term, dotted, _ in TERMS])
def test_a_term_of_the_glossary_is_a_name_of_the_code(term: str, dotted: str) -> None:
    assert exists(dotted), f"{term}: there is no {dotted}"


def test_a_name_that_is_not_there_would_be_noticed() -> None:
    assert not exists("storage.contract.Nothing")
    assert not exists("storage.contract.Storage.nothing")
    assert not exists("nowhere.Storage")


def test_every_module_that_the_map_names_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py|\w+\.py)`", ARCHITECTURE))
    places = [ROOT, PACKAGE, PACKAGE / "protocol", PACKAGE / "web"]
    places += [folder for folder in PACKAGE.rglob("*") if folder.is_dir()]
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_an_old_word_is_gone(path: Path) -> None:
    assert [found[0] for found in OLD_WORDS.finditer(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_make_command_exists(path: Path) -> None:
    listed = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(
        r"(?:`|^)(?:[A-Z_]+=\S+ )*make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(named) <= set(listed)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_command_and_option_of_the_server_exists(path: Path) -> None:
    shells = "\n".join(re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
    for line in re.findall(r"^durable-streams-server\b(.*)", shells.replace("\\\n", ""), re.MULTILINE):
        words = shlex.split(line, comments=True)
        command = words if words and not words[0].startswith("-") else ["serve"]
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= options_of(command), line


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_test_that_is_named_exists(path: Path) -> None:
    named = RUNS_PYTEST.findall(path.read_text(encoding="utf-8"))
    assert [place for place in named if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_a_page_says_how_to_run_one_test(page: str) -> None:
    assert RUNS_PYTEST.search((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_file_that_is_linked_exists(path: Path) -> None:
    links = re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
