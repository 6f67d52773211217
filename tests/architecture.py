"""
Which module may import what: the import directions of the style guide, as a function over source trees.

Purpose: L{violations} reads every module with L{ast} and says, one line each, what is not allowed.  Imports
within functions and under C{TYPE_CHECKING} count as well, and so does C{importlib.import_module} with a
constant name.

    core    model, errors, interfaces, coroutines, credentials, patterns, pipes, web, plugins, protocol, mailbox.view
                                                                 imports core;
                                                                 protocol is pure
    parts   mailbox, cred, policy, events, config, db, upstream      import core, themselves, db and upstream
    server                                                       imports core and itself
    roots   service, generation, assembly, file_assembly, file_stores, serving, sinks, backend, tap, process, delivery,
            admin, postfix, sight                                import anything, reactor

Documented exception: C{tpops.errors} imports C{twisted.cred.error}, the base of our login errors.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

CORE_MODULES = frozenset(
    (
        "tpops",
        "tpops.model",
        "tpops.errors",
        "tpops.interfaces",
        "tpops.coroutines",
        "tpops.patterns",
        "tpops.pipes",
        "tpops.credentials",
        "tpops.web",
        "tpops.plugins",
        "tpops.mailbox.view",
    )
)
PARTS = frozenset(("mailbox", "cred", "policy", "events", "config", "db", "upstream"))
#: Parts that the others build on.
BELOW = ("db", "upstream")
ROOTS = frozenset(
    (
        "service",
        "generation",
        "assembly",
        "file_assembly",
        "file_stores",
        "serving",
        "mail_database",
        "sinks",
        "backend",
        "tap",
        "process",
        "delivery",
        "admin",
        "postfix",
        "sight",
    )
)

#: What pure protocol code may import beside the standard library and itself.
PROTOCOL_MAY = frozenset(("tpops.model", "tpops.errors"))

#: Core modules without Twisted, and what of Twisted they may import all the same.
CORE_TWISTED = {
    "tpops.model": frozenset[str](),
    "tpops.interfaces": frozenset[str](),
    "tpops.errors": frozenset(("twisted.cred.error",)),
}

REACTOR = "twisted.internet.reactor"
MOST_LINES = 400


@attrs.frozen
class Module:
    """
    A module and its imports.

    @ivar imports: line and full name of everything it imports, names within modules left out
    """

    name: str
    path: Path
    tree: ast.Module
    imports: tuple[tuple[int, str], ...]


def violations(root: Path) -> list[str]:
    """What the modules of the package C{root/tpops} do that they may not, as "path:line: why"."""
    trees = {_module_name(path, root): path for path in sorted((root / "tpops").rglob("*.py"))}
    found = []
    for name, path in trees.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        module = Module(name, path, tree, tuple(_imports(tree, frozenset(trees))))
        found += [f"{path.relative_to(root)}:{line}: {why}" for line, why in _complaints(module)]
    return found


def long_files(root: Path, *folders: str) -> list[str]:
    """The Python files below these folders that have more than L{MOST_LINES} lines."""
    sizes = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in sorted((root / folder).rglob("*.py"))
    }
    return [
        f"{path.relative_to(root)}: {lines} lines, at most {MOST_LINES}"
        for path, lines in sizes.items()
        if lines > MOST_LINES
    ]


def packages_missing(root: Path, folder: str) -> list[str]:
    """The folders with Python files that are no packages."""
    folders = {path.parent for path in (root / folder).rglob("*.py")}
    return [
        f"{path.relative_to(root)}: no __init__.py" for path in sorted(folders) if not (path / "__init__.py").exists()
    ]


def _module_name(path: Path, root: Path) -> str:
    """The dotted name of a file; that of a package is the name of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and name of each imported module; relative imports keep their dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield node.lineno, whole if whole in known or whole == REACTOR else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__", "namedModule") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def _layer(name: str) -> str:
    """core, protocol, server, root, the name of a part, or "" for what has no place."""
    first = name.split(".")[1] if "." in name else ""
    if name in CORE_MODULES:
        return "core"
    if first in ("protocol", "server") or first in PARTS:
        return first
    return "root" if first in ROOTS else ""


def _complaints(module: Module) -> Iterator[tuple[int, str]]:
    """Line and reason of each violation in one module."""
    layer = _layer(module.name)
    if not layer:
        yield 1, f"{module.name} belongs to no layer"
    if module.path.name == "__init__.py" and (len(module.tree.body) != 1 or ast.get_docstring(module.tree) is None):
        yield 1, "__init__.py must hold a docstring and nothing else"
    for line, imported in sorted(set(module.imports)):
        why = _refusal(module.name, layer, imported)
        if why:
            yield line, f"{module.name} imports {imported}: {why}"


def _refusal(name: str, layer: str, imported: str) -> str:
    """Why this module may not import that one, "" when it may."""
    top = imported.split(".")[0]
    if imported.startswith("."):
        return "imports are absolute"
    if imported == REACTOR and layer != "root":
        return "only roots touch the reactor"
    if top == "tpops":
        return "" if _allowed(layer, imported) else f"{layer or 'it'} may not"
    if layer == "protocol":
        return "" if top in sys.stdlib_module_names else "protocol is pure"
    if top == "twisted" and name in CORE_TWISTED and imported not in CORE_TWISTED[name]:
        return "this part of the core is without Twisted"
    return ""


def _allowed(layer: str, imported: str) -> bool:
    """Whether a module of this layer may import that module of ours."""
    other = _layer(imported)
    if layer == "root":
        return True
    if layer == "protocol":
        return other == "protocol" or imported in PROTOCOL_MAY
    if other in ("core", "protocol"):
        return True
    if layer in PARTS:
        return other == layer or (other in BELOW and layer not in BELOW)
    return layer == "server" and other == "server"
