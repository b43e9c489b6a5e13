"""How many inputs each decoder gets in a test: ``FUZZ_EXAMPLES``, few by default. The long run has its own budget."""

from __future__ import annotations

import os
from random import Random
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.engine import Target, hold

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "100"))


def explore(target: Target, share: float = 1.0) -> None:
    """Feed a target with inputs that Hypothesis chooses, and shrinks. ``share``: of the usual number of inputs."""

    @settings(
        max_examples=max(10, int(EXAMPLES * share)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(random=st.randoms(use_true_random=False))
    def holds(random: Random) -> None:
        hold(target, random)

    holds()
