"""Holds docs/architecture.md against the code: which folder may import what, how large things may grow, and
the names that say nothing. Whoever wants to change a row here changes the map first.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import ROOT

PACKAGE = ROOT / "durable_streams"
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
FOLDER_MODULES_MAX = 15
CLASS_METHODS_MAX = 20
CLASS_ATTRIBUTES_MAX = 12
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "core", "misc"}


@dataclass(frozen=True)
class Layer:
    """What a folder or module may import: parts of our package by their dotted names, and other packages."""

    ours: frozenset[str]
    others: frozenset[str]


def layer(*ours: str, others: str = "") -> Layer:
    return Layer(frozenset(ours), frozenset(others.split()))


PORT = (
    "persistent_map",
    "protocol",
    "storage.contract",
    "storage.rows",
    "storage.deadlines",
    "storage.state_cache",
)
"""What every storage stands on."""

# A module's row is the longest name that its own begins with; a module with no row may import everything.
LAYERS = {
    "extras": layer(),
    "addresses": layer(),
    "exchanges": layer(),
    "persistent_map": layer(),
    "protocol": layer("protocol", "persistent_map"),
    # The one exception: a JSON parser that keeps every token as it was sent.
    "protocol.messages.placing": layer("protocol", others="msgspec"),
    "protocol.messages.splitting": layer("protocol", others="msgspec"),
    "config": layer("config", "storage.modes", others="tomli pydantic pydantic_core"),
    "telemetry": layer("telemetry", "exchanges", "config", "storage.modes"),
    "eventloop": layer("eventloop", others="gevent"),
    "worker": layer("worker", "eventloop", "addresses", others="gevent gunicorn gunicorn_h1c"),
    "storage": layer(*PORT),
    "storage.abilities": layer("storage.on_disk.report"),
    # The table of modes imports a storage when it is built.
    "storage.modes": layer("storage", "extras"),
    "storage.finding": layer("storage.contract", "protocol", others="gevent"),
    "storage.memory": layer("storage.memory", *PORT, others="BTrees"),
    "storage.on_disk": layer("storage.on_disk", "storage.modes", "protocol"),
    "storage.on_disk.background": layer("storage.on_disk", others="gevent"),
    "storage.on_disk.open_file": layer("storage.on_disk", "eventloop"),
    "storage.on_disk.room": layer("storage.on_disk", "storage.contract", "protocol"),
    "storage.on_disk.storage": layer("storage.on_disk", "storage.contract"),
    "storage.files": layer(
        "storage.files", "storage.on_disk", "eventloop", *PORT, others="gevent msgspec BTrees zlib_ng"
    ),
    "storage.zodb": layer(
        "storage.zodb",
        "storage.on_disk",
        "eventloop",
        *PORT,
        others="gevent BTrees ZODB persistent transaction zc zlib_ng zodbpickle",
    ),
    "storage.postgres": layer(
        "storage.postgres", "storage.abilities", *PORT, others="gevent msgspec psycopg"
    ),
    "streams": layer("streams", "storage.contract", "storage.abilities", "storage.finding", "protocol"),
    "streams.pipeline": layer(
        "streams",
        "storage.contract",
        "storage.abilities",
        "storage.finding",
        "protocol",
        others="gevent",
    ),
    "streams.sweeper": layer("streams", "eventloop", "protocol", others="gevent"),
    "streams.reading": layer("streams", "storage.contract", "storage.finding", "protocol", "eventloop"),
    "streams.splitting": layer("streams", "eventloop", "protocol", others="gevent"),
    "live": layer(
        "live", "eventloop", "streams", "storage.contract", "storage.abilities", "protocol", others="gevent"
    ),
    "subscriptions": layer(
        "subscriptions",
        "eventloop",
        "streams",
        "storage.contract",
        "protocol",
        "config",
        "extras",
        "__version__",
        others="gevent cryptography itsdangerous msgspec urllib3",
    ),
    "service": layer(
        "live",
        "subscriptions",
        "eventloop",
        "streams",
        "storage.contract",
        "storage.abilities",
        "protocol",
        "config",
        others="gevent",
    ),
    "metrics": layer(
        "metrics",
        "exchanges",
        "service",
        "streams",
        "storage.contract",
        "storage.abilities",
        "protocol",
        others="flask gevent prometheus_client",
    ),
    "access": layer("access", "exchanges", "protocol", "storage.on_disk.disk"),
    "access.signed_urls": layer("access", others="itsdangerous"),
    "access.client_certificates": layer("exchanges", "eventloop"),
    "access.building": layer("access", "config", "extras"),
    "access.json_web_tokens": layer(
        "access", "eventloop", "protocol", others="cryptography gevent jwt urllib3"
    ),
    "admin": layer(
        "admin",
        "metrics.counting",
        "service",
        "storage.contract",
        "storage.abilities",
        "protocol",
        "eventloop",
        others="gevent",
    ),
    "traffic": layer("traffic", "addresses", "exchanges", "protocol", others="limits"),
    "traffic.building": layer("traffic", "exchanges", "config", "extras", others="limits"),
    "traffic.store_limits": layer("config", "protocol", "streams"),
    "otel": layer(
        "otel",
        "exchanges",
        "metrics",
        "service",
        "subscriptions",
        "telemetry",
        "eventloop",
        "protocol",
        "extras",
        others="gevent opentelemetry prometheus_client",
    ),
    "embedding": layer(
        "service",
        "protocol",
        "eventloop",
        "config",
        others="gevent",
    ),
    "web": layer(
        "web",
        "admin",
        "access",
        "traffic",
        "embedding",
        "service",
        "protocol",
        "eventloop",
        "storage.contract",
        "storage.abilities",
        "streams",
        "live",
        "subscriptions",
        "telemetry",
        "config",
        "extras",
        "__version__",
        others="flask werkzeug gevent msgspec brotli zstandard",
    ),
}

# The protocol is decided without a clock, without input and output, and without threads.
NOT_IN_PROTOCOL = {
    "asyncio",
    "email",
    "http",
    "io",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "threading",
    "time",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def imported_names(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere in it, with the imported name, which may be a module too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written out in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(name: str) -> Layer | None:
    rows = [row for row in LAYERS if begins(name, row)]
    return LAYERS[max(rows, key=len)] if rows else None


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    name = dotted(path)
    allowed = layer_of(name)
    if allowed is None:
        assert not begins(name, "storage.") or name.count(".") == 0, f"{name} has no row in LAYERS"
        return
    for imported in imported_names(path):
        top = imported.split(".")[0]
        if top == "durable_streams":
            ours = imported.removeprefix("durable_streams").removeprefix(".")
            assert any(begins(ours, part) for part in allowed.ours), f"{name} imports {imported}"
        elif top not in sys.stdlib_module_names | {"_typeshed"}:
            assert top in allowed.others, f"{name} imports {imported}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "protocol").rglob("*.py")), ids=dotted)
def test_the_protocol_has_no_clock_and_no_input_or_output(path: Path) -> None:
    tops = {imported.split(".")[0] for imported in imported_names(path)}
    assert not tops & NOT_IN_PROTOCOL


def test_the_protocol_alone_loads_no_server_and_no_socket() -> None:
    """In a fresh interpreter without site's start files, so that nothing but the import itself is seen."""
    paths = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    program = f"""
import importlib, pkgutil, sys
sys.path += {paths!r}
import durable_streams.protocol
for module in pkgutil.walk_packages(durable_streams.protocol.__path__, "durable_streams.protocol."):
    importlib.import_module(module.name)
unwanted = {{"flask", "gevent", "socket", "threading", "werkzeug"}}
print(sorted(name for name in sys.modules if name.split(".")[0] in unwanted))
"""
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True, timeout=180
    )
    assert finished.stdout.strip() == "[]"


def test_importing_the_package_loads_nothing_else() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import durable_streams
print(sorted(name for name in sys.modules if name.startswith("durable_streams.")))
"""
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True, timeout=180
    )
    assert finished.stdout.strip() == "[]"


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_a_module_says_what_it_decides_and_stays_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a file opens with what it decides and what it leaves to others"
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


def own_attributes(node: ast.ClassDef) -> set[str]:
    """What the class declares, and what its methods assign to ``self``."""
    targets = [statement.target for statement in node.body if isinstance(statement, ast.AnnAssign)]
    for statement in node.body:
        targets += statement.targets if isinstance(statement, ast.Assign) else []
    names = {target.id for target in targets if isinstance(target, ast.Name)} - {"__slots__"}
    for part in ast.walk(node):
        is_stored = isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
        if is_stored and isinstance(part.value, ast.Name) and part.value.id == "self":
            names.add(part.attr)
    return names


def attributes_of_foreign_bases(module: str, node: ast.ClassDef) -> set[str]:
    """What belongs to the classes of other packages that this one is derived from."""
    if not node.bases:
        return set()
    cls = getattr(importlib.import_module(f"durable_streams.{module}"), node.name)
    names: set[str] = set()
    for base in cls.__mro__[1:]:
        if not base.__module__.startswith("durable_streams") and base.__module__ != "builtins":
            with suppress(OSError, TypeError):
                (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
                names |= own_attributes(tree) if isinstance(tree, ast.ClassDef) else set()
    return names


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_a_class_stays_small(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef):
            continue
        attributes = own_attributes(node)
        if len(attributes) > CLASS_ATTRIBUTES_MAX:
            attributes -= attributes_of_foreign_bases(dotted(path), node)
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        assert len(methods) <= CLASS_METHODS_MAX, f"{node.name} has {len(methods)} methods"
        assert len(attributes) <= CLASS_ATTRIBUTES_MAX, (
            f"{node.name} has {len(attributes)} attributes: {sorted(attributes)}"
        )


def test_no_folder_holds_more_modules_than_one_can_keep_in_mind() -> None:
    folders = {path.parent for path in modules()}
    counts = {dotted(folder / "__init__.py"): len(list(folder.glob("*.py"))) - 1 for folder in folders}
    assert {name: count for name, count in counts.items() if count > FOLDER_MODULES_MAX} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    paths = [*modules(), *(ROOT / "tests").glob("*.py"), *(ROOT / "tests").glob("*/*.py")]
    names = {
        part.removeprefix("test_").removesuffix(".py")
        for path in paths
        for part in path.relative_to(ROOT).parts
    }
    assert not names & BANNED_NAMES


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_nothing_is_left_to_be_done_later(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [mark for mark in ("TODO", "FIXME", "XXX", "NotImplementedError") if mark in text]


def test_the_drawing_of_the_floors_has_every_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.split("```text")[1].split("```")[0]
    drawn = {word.rstrip("/") for word in drawing.split() if word.endswith("/")}
    assert drawn == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
