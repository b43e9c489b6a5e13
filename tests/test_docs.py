"""Documents that fail: links lead somewhere, and the README starts as it should."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not {"target"} & set(page.parts) and not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
]
_LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_the_readme_starts_with_what_it_is_and_two_commands() -> None:
    title, what, commands, *_ = (ROOT / "README.md").read_text("utf-8").split("\n\n")
    assert title == "# frost-sidecar"
    assert what.count("\n") == 2
    lines = commands.splitlines()
    assert lines[0].startswith("```")
    assert [line.split("#")[0].strip() for line in lines[1:-1]] == ["make demo", "make test"]


def test_every_decision_is_listed() -> None:
    pages = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("0*.md"))
    listed = _LINK.findall((ROOT / "docs" / "decisions" / "README.md").read_text("utf-8"))
    assert sorted(listed) == pages
