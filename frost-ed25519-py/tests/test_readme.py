"""The examples in the README run."""

import re
from pathlib import Path


def test_examples() -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    # The second goes on where the first ends.
    exec(compile("".join(examples), "README.md", "exec"), {})  # noqa: S102
