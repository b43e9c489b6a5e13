"""The import rules of the house, read from the source: modules only know what stands below them."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import frost_sidecar

ROOT = Path(frost_sidecar.__file__).parent

TOP_TO_BOTTOM = (
    "target",
    "blocking",
    "portal",
    "client",
    "answers",
    "connection",
    "coordinator",
    "server",
    "socket_file",
    "routes",
    "openapi",
    "access",
    "peer",
    "readiness",
    "batch",
    "idempotency",
    "signing",
    "participants",
    "audit",
    "grants",
    "policy",
    "selection",
    "sessions",
    "aggregation",
    "batching",
    "commitments",
    "source",
    "offers",
    "stock",
    "signers",
    "transport",
    "wire",
    "keygen",
    "plugins",
    "mint",
    "service",
    "arguments",
    "contract",
    "hookspecs",
    "config",
    "rules",
    "patterns",
    "jose",
    "jws",
    "process",
    "listener",
    "acceptor",
    "channel",
    "identity",
    "revocation",
    "spiffe",
    "following",
    "addressing",
    "metrics",
    "containment",
    "logs",
    "problem",
    "sealing",
    "private_file",
    "encoding",
    "errors",
    "model",
)
"""Each may import those behind it. ``keygen`` and ``idempotency`` are packages; within them everything goes."""

SIGNER_MAY_IMPORT = {
    *(
        "addressing",
        "channel",
        "config",
        "encoding",
        "errors",
        "hookspecs",
        "listener",
        "logs",
        "metrics",
        "model",
        "plugins",
        "private_file",
        "problem",
        "sealing",
    ),
    *("following", "identity", "jose", "jws", "policy", "process", "rules", "signer", "spiffe", "wire"),
}
ABOVE = {"cli", "testing", "signer", "__init__", "__main__"}
"""Groups with rules of their own."""
ONLY_IN = {"pluggy": "plugins", "prometheus_client": "metrics"}
LONGEST = 400


def _modules(root: Path) -> Iterator[tuple[str, str, ast.Module]]:
    """Relative path, group (the top-level module or package) and syntax tree of every module."""
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        yield str(relative), relative.parts[0].removesuffix(".py"), ast.parse(file.read_text("utf-8"))


def _imports(tree: ast.Module, modules: set[str]) -> set[str]:
    """Names of all imports, wherever they stand; ``from frost_sidecar import wire`` names ``frost_sidecar.wire``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else node.module or "")
            if node.module == "frost_sidecar":
                names |= {f"frost_sidecar.{each.name}" for each in node.names if each.name in modules}
    return names


def _may_import(group: str, other: str) -> bool:
    if group == other or group == "cli":
        return True
    if group in {"__init__", "testing"}:
        return other != "cli" and (group == "testing" or other not in ABOVE)
    if group == "__main__":
        return other == "cli"
    if group == "signer":
        return other in SIGNER_MAY_IMPORT
    return other in TOP_TO_BOTTOM and TOP_TO_BOTTOM.index(group) < TOP_TO_BOTTOM.index(other)


def violations(root: Path) -> list[str]:
    """What breaks the rules below ``root``, one line each."""
    found: list[str] = []
    modules = {group for _, group, _ in _modules(root)}
    for path, group, tree in _modules(root):
        if group not in {*TOP_TO_BOTTOM, *ABOVE}:
            found.append(f"{path}: has no place in the order")
            continue
        for name in sorted(_imports(tree, modules)):
            top, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if not top:
                found.append(f"{path}: imports relatively")
            elif top == "frost_sidecar" and other and not _may_import(group, other):
                found.append(f"{path}: imports {other}")
            elif top.startswith("frost_sidecar_") and group != "cli":
                found.append(f"{path}: imports the plugin {top}")
            elif group != ONLY_IN.get(top, group):
                found.append(f"{path}: imports {top}, which is for {ONLY_IN[top]} alone")
            elif top in {"typer", "rich"} and group != "cli":
                found.append(f"{path}: imports {top}, which is for cli alone")
    return found


def shape_faults(root: Path) -> list[str]:
    """Modules too long, without docstring, or with a name that says nothing."""
    found = []
    for path, _, tree in _modules(root):
        lines = len((root / path).read_text("utf-8").splitlines())
        if lines > LONGEST:
            found.append(f"{path}: {lines} lines")
        if not ast.get_docstring(tree) and Path(path).name != "__main__.py":
            found.append(f"{path}: no docstring")
        if Path(path).stem in {"utils", "util", "helpers", "common", "misc"}:
            found.append(f"{path}: is no noun")
    return found


def test_imports_only_point_down() -> None:
    assert violations(ROOT) == []


def test_the_order_speaks_of_what_stands() -> None:
    standing = {each.stem for each in ROOT.iterdir() if each.suffix == ".py" or (each / "__init__.py").exists()}
    assert {*TOP_TO_BOTTOM, *ABOVE} == standing


def test_modules_are_short_described_and_named() -> None:
    assert shape_faults(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line", "said"),
    [
        ("wire.py", "from frost_sidecar.signing import Signing", "imports signing"),
        ("wire.py", "from frost_sidecar import signing", "imports signing"),
        ("wire.py", "import frost_sidecar.signing", "imports signing"),
        ("wire.py", "def f():\n    from frost_sidecar.signing import Signing", "imports signing"),
        ("wire.py", "from . import errors", "imports relatively"),
        ("wire.py", "from frost_sidecar.testing.cluster import MemoryCluster", "imports testing"),
        ("wire.py", "import rich.table", "imports rich, which is for cli alone"),
        ("sessions.py", "from frost_sidecar.signer import SignerNode", "imports signer"),
        ("signer/node.py", "from frost_sidecar.sessions import Sessions", "imports sessions"),
        ("signer/node.py", "from frost_sidecar.keygen.dealer import deal", "imports keygen"),
        ("keygen/dealer.py", "from frost_sidecar.transport import Trace", "imports transport"),
        ("coordinator.py", "from pluggy import PluginManager", "imports pluggy, which is for plugins alone"),
        (
            "coordinator.py",
            "from prometheus_client.core import Metric",
            "imports prometheus_client, which is for metrics alone",
        ),
        ("testing/cluster.py", "from frost_sidecar.cli import main", "imports cli"),
        ("testing/cluster.py", "import frost_sidecar_audit_worm", "imports the plugin frost_sidecar_audit_worm"),
        ("__init__.py", "from frost_sidecar.testing import cluster", "imports testing"),
        ("__main__.py", "from frost_sidecar.coordinator import Coordinator", "imports coordinator"),
        ("helper.py", "import json", "has no place in the order"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, path: str, line: str, said: str) -> None:
    good = {
        "signing.py": "from frost_sidecar.errors import Denied\n",
        "errors.py": "import json\n",
        "cli/main.py": "import typer\nimport frost_sidecar_audit_worm\nfrom frost_sidecar.testing import cluster\n",
        "testing/cluster.py": "from frost_sidecar.signer import SignerNode\nfrom frost_sidecar import signing\n",
        "signer/node.py": "from frost_sidecar.signer.nonces import NonceStore\nfrom frost_sidecar import errors\n",
        "plugins.py": "import pluggy\n",
        "__init__.py": "from frost_sidecar.signing import Signing\n",
    }
    for name, text in good.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert violations(tmp_path) == []
    bad = tmp_path / path
    bad.parent.mkdir(exist_ok=True)
    bad.write_text(line + "\n")
    assert violations(tmp_path) == [f"{path}: {said}"]


def test_a_module_out_of_shape_is_found(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("x = 1\n" * (LONGEST + 1))
    (tmp_path / "wire.py").write_text('"""Said."""\n' + "x = 1\n" * (LONGEST - 1))
    assert shape_faults(tmp_path) == [
        f"utils.py: {LONGEST + 1} lines",
        "utils.py: no docstring",
        "utils.py: is no noun",
    ]


def test_the_front_door_is_exactly_this() -> None:
    assert frost_sidecar.__all__ == [
        "AsyncSidecarClient",
        "BatchItem",
        "BlockingCoordinator",
        "BlockingMint",
        "Config",
        "Coordinator",
        "FrostSidecarError",
        "Mint",
        "SidecarClient",
        "SignRequest",
        "Signed",
        "connect",
        "connect_blocking",
        "hookimpl",
    ]


@pytest.mark.parametrize(
    "name",
    sorted(
        ".".join(["frost_sidecar", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for file in ROOT.rglob("*.py")
        if file.name != "__main__.py"
    ),
)
def test_every_module_imports_and_keeps_what_it_promises(name: str) -> None:
    module = importlib.import_module(name)
    assert [each for each in getattr(module, "__all__", []) if not hasattr(module, each)] == []
