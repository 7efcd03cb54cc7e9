"""Imports follow the data flow, and each outside world has one module that talks to it."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The stages that turn data into data: they can be tested, and trusted, without any machine.
PURE = ("planning", "rendering")
OUTSIDE = ("httpx", "docker", "subprocess", "builder.engines", "builder.system.subprocesses")

# Library -> the modules (or packages) of ours that may import it.
OWNERS = {
    "docker": ("builder.engines",),
    "httpx": (
        "builder.fetching.transport",
        "builder.fetching.guard",
        "builder.fetching.replies",
        "builder.fetching.logins",
        "builder.registry",
    ),
    "rich": ("builder.console.terminal", "builder.console.table"),
    "cryptography": ("builder.attest.keys",),
    "jinja2": ("builder.rendering.render",),
    "subprocess": ("builder.system.subprocesses",),
}
# (module, library) -> why it may import the library besides its owner.
EXCEPTIONS: dict[tuple[str, str], str] = {}

# Data flows down this list; an import points up it, or to something not listed.
STAGES = (
    "builder.errors",
    "builder.model",
    "builder.settings",
    "builder.planning",
    "builder.lock",
    "builder.assemble",
    "builder.rendering",
    "builder.inspecting",
    "builder.building",
    "builder.commands",
    "builder.options",
    "builder.cli",
)


def modules() -> dict[str, str]:
    """Every module of the package: dotted name -> source."""
    found = {}
    for path in sorted((ROOT / "builder").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


@cache
def imports(source: str, *, for_types: bool = True) -> frozenset[str]:
    """What `source` imports anywhere, lazily too; `from a import b` gives a and a.b."""
    tree = ast.parse(source)
    skipped: set[ast.AST] = set()
    if not for_types:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                skipped |= {inner for child in node.body for inner in ast.walk(child)}
    kept = (node for node in ast.walk(tree) if node not in skipped)
    return frozenset(name for node in kept for name in _names(node))


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


def reach(start: str, sources: dict[str, str]) -> dict[str, str]:
    """Everything that importing `start` can import: name -> who imports it."""
    seen: dict[str, str] = {}
    todo = [start]
    while todo:
        module = todo.pop()
        for name in imports(sources[module], for_types=False):
            if name not in seen:
                seen[name] = module
                if name in sources:
                    todo.append(name)
    return seen


def owner_faults(sources: dict[str, str]) -> list[str]:
    return [
        f"{module} imports {name}: only {', '.join(owners)} may"
        for module, source in sources.items()
        for library, owners in OWNERS.items()
        for name in sorted(imports(source, for_types=False))
        if within(name, library)
        and not any(within(module, owner) for owner in owners)
        and (module, library) not in EXCEPTIONS
    ]


def pure_faults(sources: dict[str, str]) -> list[str]:
    return [
        f"{module} reaches {name} through {through}"
        for module in sources
        if any(within(module, f"builder.{stage}") for stage in PURE)
        for name, through in reach(module, sources).items()
        if any(within(name, outside) for outside in OUTSIDE)
    ]


def _stage(name: str) -> int | None:
    return next((at for at, stage in enumerate(STAGES) if within(name, stage)), None)


def flow_faults(sources: dict[str, str]) -> list[str]:
    faults = []
    for module, source in sources.items():
        here = _stage(module)
        for name in sorted(imports(source, for_types=False)):
            there = _stage(name)
            if here is not None and there is not None and there > here:
                faults.append(f"{module} imports {name}, a later stage")
    return faults


def cycles(sources: dict[str, str]) -> list[str]:
    return [module for module in sources if module in reach(module, sources)]


def test_each_library_has_one_owner() -> None:
    assert owner_faults(modules()) == []


def test_pure_stages_reach_no_outside_world() -> None:
    assert pure_faults(modules()) == []


def test_imports_follow_the_data_flow() -> None:
    assert flow_faults(modules()) == []


def test_no_import_cycles() -> None:
    assert cycles(modules()) == []


def test_image_side_code_is_independent() -> None:
    """selfcheck/ runs inside containers, where builder/ is not."""
    for path in sorted((ROOT / "selfcheck").rglob("*.py")):
        names = imports(path.read_text(encoding="utf-8"))
        assert not [name for name in names if within(name, "builder")], path


def test_exceptions_are_still_needed() -> None:
    sources = modules()
    for module, library in EXCEPTIONS:
        assert any(within(name, library) for name in imports(sources[module])), module


@pytest.mark.parametrize(
    ("faults", "sources"),
    [
        (owner_faults, {"builder.planning.plan": "def f():\n    import subprocess"}),
        (owner_faults, {"builder.enginesque": "from docker.errors import APIError"}),
        (pure_faults, {"builder.planning.plan": "import builder.x", "builder.x": "import httpx"}),
        (flow_faults, {"builder.planning.plan": "from builder.rendering.render import render"}),
        (flow_faults, {"builder.lock.resolve": "from builder import cli"}),
        (cycles, {"builder.a": "import builder.b", "builder.b": "from builder import a"}),
    ],
)
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
