"""Rooms import only rooms below them, and each outside world has one owner."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "builder" / "wheelyard"

# Every unit of the package from the ground up: a unit imports only units that stand before it.
# ARCHITECTURE.md says what each is for.
ROOMS = (
    "layers",
    "errors",
    "digests",
    "architecture",
    "model",
    "versions",
    "console",
    "system",
    "oci",
    "settings",
    "context",
    "frameworks",
    "planning",
    "fetching",
    "contract",
    "lock",
    "lock.upstream",
    "registry",
    "engines",
    "rendering",
    "images.assemble",
    "images.inputs",
    "images.inspect",
    "images.build",
    "dockerfiles",
    "publish.attest",
    "publish",
    "servers",
    "projects",
    "devcontainers",
    "verify",
    "options",
    "commands",
    "cli",
    "site",
    "__main__",
)
GATHERED = ("images",)  # packages that hold rooms and no module of their own
INDEPENDENT = "selfcheck"  # runs inside containers, where the rest is not

# Library -> the modules (or packages) of ours that may import it.
OWNERS = {
    "docker": ("wheelyard.engines", "wheelyard.dockerfiles"),
    "httpx": (
        "wheelyard.fetching.transport",
        "wheelyard.fetching.guard",
        "wheelyard.fetching.replies",
        "wheelyard.fetching.logins",
        "wheelyard.registry",
    ),
    "rich": ("wheelyard.console.terminal", "wheelyard.console.table"),
    "cryptography": ("wheelyard.publish.attest.keys",),
    "argcomplete": ("wheelyard.cli", "wheelyard.commands.completion"),
    "jinja2": ("wheelyard.system.templates",),
    "subprocess": ("wheelyard.system.subprocesses",),
}
# Rooms that turn data into data: they can be tested, and trusted, without any machine.
PURE = ("frameworks", "planning", "contract", "rendering")
OUTSIDE = ("httpx", "docker", "subprocess", "wheelyard.engines", "wheelyard.system.subprocesses")
# Is given its inputs, and asks no network for anything.
OFFLINE = ("images.assemble", "images.inspect")
NETWORK = ("httpx", "docker", "wheelyard.fetching", "wheelyard.registry", "wheelyard.engines")


def modules() -> dict[str, str]:
    """Every module of the package but selfcheck's: dotted name -> source."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] != INDEPENDENT:
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text(encoding="utf-8")
    return found


@cache
def imports(source: str, *, for_types: bool = True) -> frozenset[str]:
    """What `source` imports anywhere, lazily too; `from a import b` gives a and a.b."""
    skipped: set[ast.AST] = set()
    if not for_types:
        for node in statements(source):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                skipped |= {inner for child in node.body for inner in ast.walk(child)}
    kept = (node for node in statements(source) if node not in skipped)
    return frozenset(name for node in kept for name in _names(node))


@cache
def statements(source: str) -> tuple[ast.AST, ...]:
    """Those that import, and the conditions that they may stand under."""
    kinds = (ast.Import, ast.ImportFrom, ast.If)
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        assert node.module is not None
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def reach(start: str, sources: dict[str, str], *, for_types: bool = False) -> dict[str, str]:
    """Everything that importing `start` can import: name -> who imports it."""
    seen: dict[str, str] = {}
    todo = [start]
    while todo:
        module = todo.pop()
        for name in imports(sources[module], for_types=for_types):
            if name not in seen:
                seen[name] = module
                if name in sources:
                    todo.append(name)
    return seen


def room(module: str) -> str | None:
    """The room of a module: the longest name in the list that holds it."""
    names = [name for name in ROOMS if within(module, f"wheelyard.{name}")]
    return max(names, key=len, default=None)


def homeless(sources: dict[str, str]) -> list[str]:
    """Modules in no room; packages that only gather rooms, and the package itself, need none."""
    gathered = {"wheelyard", *(f"wheelyard.{name}" for name in GATHERED)}
    return [name for name in sources if name not in gathered and room(name) is None]


def upward(sources: dict[str, str]) -> list[str]:
    """Imports of a room that stands later in the list, type-only ones included."""
    faults = []
    for module, source in sources.items():
        here = room(module)
        for name in sorted(imports(source)):
            there = room(name) if name in sources else None
            if here and there and ROOMS.index(there) > ROOMS.index(here):
                faults.append(f"{module} imports {name}: {there} is above {here}")
    return faults


def owner_faults(sources: dict[str, str]) -> list[str]:
    return [
        f"{module} imports {name}: only {', '.join(owners)} may"
        for module, source in sources.items()
        for library, owners in OWNERS.items()
        for name in sorted(imports(source, for_types=False))
        if within(name, library) and not any(within(module, owner) for owner in owners)
    ]


def pure_faults(sources: dict[str, str]) -> list[str]:
    return [
        f"{module} reaches {name} through {through}"
        for rooms, forbidden in ((PURE, OUTSIDE), (OFFLINE, NETWORK))
        for module in sources
        if any(within(module, f"wheelyard.{room}") for room in rooms)
        for name, through in reach(module, sources).items()
        if any(within(name, outside) for outside in forbidden)
    ]


def cycles(sources: dict[str, str]) -> list[str]:
    """Modules that import themselves through others, type-only imports included."""
    return [module for module in sources if module in reach(module, sources, for_types=True)]


def test_every_module_is_in_a_room() -> None:
    assert homeless(modules()) == []


def test_every_room_exists() -> None:
    there = set(modules())
    assert [name for name in (*ROOMS, *GATHERED) if f"wheelyard.{name}" not in there] == []


def test_rooms_import_only_what_is_below_them() -> None:
    assert upward(modules()) == []


def test_no_two_modules_import_each_other() -> None:
    assert cycles(modules()) == []


def test_each_library_has_one_owner() -> None:
    assert owner_faults(modules()) == []


def test_pure_and_offline_rooms_reach_no_outside_world() -> None:
    assert pure_faults(modules()) == []


def test_selfcheck_is_independent() -> None:
    """It runs inside containers, where nothing else of wheelyard is, under another name."""
    for path in sorted((PACKAGE / INDEPENDENT).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        depth = len(path.relative_to(PACKAGE / INDEPENDENT).parts)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= depth, path
                assert not within(node.module or "", "wheelyard"), path
            elif isinstance(node, ast.Import):
                assert not [alias for alias in node.names if within(alias.name, "wheelyard")], path


def test_the_architecture_lists_the_rooms_in_their_order() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    begin = text.index("| room |")
    table = text[begin : text.index("\n\n", begin)]
    listed = [name.strip("`/ ") for row in table.splitlines()[2:]
              for name in row.split("|")[1].split(",")]  # fmt: skip
    listed = [name.replace("/", ".").removesuffix(".py") for name in listed]
    assert listed == [name for name in ROOMS if name != "__main__"]


@pytest.mark.parametrize(
    ("faults", "sources"),
    [
        (homeless, {"wheelyard.cellar": "", "wheelyard.planning.plan": ""}),
        (owner_faults, {"wheelyard.planning.plan": "def f():\n    import subprocess"}),
        (owner_faults, {"wheelyard.enginesque": "from docker.errors import APIError"}),
        (pure_faults, {"wheelyard.planning.plan": "import wheelyard.x",
                       "wheelyard.x": "import httpx"}),
        (upward, {"wheelyard.planning.plan": "from wheelyard.lock.uv import x",
                  "wheelyard.lock.uv": ""}),
        (upward, {"wheelyard.lock.uv": "if TYPE_CHECKING:\n    from wheelyard import cli",
                  "wheelyard.cli": ""}),
        (upward, {"wheelyard.lock.uv": "import wheelyard.lock.upstream.watch",
                  "wheelyard.lock.upstream.watch": ""}),
        (cycles, {"wheelyard.a": "import wheelyard.b", "wheelyard.b": "from wheelyard import a"}),
    ],
)  # fmt: skip
def test_the_rules_catch_what_they_forbid(faults: object, sources: dict[str, str]) -> None:
    assert callable(faults)
    assert faults(sources)


def test_imports_for_types_are_told_apart() -> None:
    source = textwrap.dedent("""
        import a
        if TYPE_CHECKING:
            from b import c
    """)
    assert imports(source) == {"a", "b", "b.c"}
    assert imports(source, for_types=False) == {"a"}


def test_a_public_class_has_its_name_to_itself() -> None:
    """selfcheck aside, which is a program of its own."""
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "selfcheck" not in path.parts:
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(path.name)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared == {"WheelError": ["errors.py", "errors.py"]}  # ours, and the library's


# What docstrings began with that described a value where they should say what is done.
NO_VERBS = re.compile(
    r"A|Agreement|All|An|And|Any|As|At|Both|By|Causal|Driver|Dynamic|Each|Every|Fewer|For|From|"
    r"Half|How|If|In|It|Its|Keras|Logits|Machine|Memory|Mixed|More|No|Not|Nothing|Of|On|One|"
    r"Our|Python|Row|Shape|Small|That|The|Their|This|Those|Throughput|Two|Until|Version|What|"
    r"When|Where|Whether|Which|Who|Why|With|Without|Work|"
    r".*([^s]s|ion|ity|ness|[aeiouy].*ing)"  # plurals and the like
)


def nameless(source: str) -> list[str]:
    """Docstrings of functions that begin with no verb; a property may say what it is."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, *_ = (ast.get_docstring(node) or "Return").split()
            kinds = {ast.unparse(kind).rpartition(".")[2] for kind in node.decorator_list}
            word = first.rstrip(".,:;")
            good = re.fullmatch(r"[A-Z][a-z]+", word) and not NO_VERBS.fullmatch(word)
            if not good and not kinds & {"property", "cached_property"}:
                faults.append(f"{node.name}: {first}")
    return faults


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    """Private ones and selfcheck's as well."""
    paths = sorted(PACKAGE.rglob("*.py"))
    assert [f"{path.name}: {fault}" for path in paths for fault in nameless(path.read_text())] == []


@pytest.mark.parametrize(
    "text",
    ["Bytes of it.", "(N, 784) -> (N, 10).", "JAX's name.", "Whether it is.", "`cuda` or `cpu`.",
     "Work that counts.", "Returns it.", "2 x + 1.", "Computing it.", "NCCL adds."],
)  # fmt: skip
def test_docstrings_that_begin_with_a_noun_are_caught(text: str) -> None:
    function = f'def f():\n    """{text}"""\n'
    assert nameless(function)
    assert nameless(f"@property\n{function}") == []
    assert nameless('def f():\n    """Compress, and pass on."""\n') == []
