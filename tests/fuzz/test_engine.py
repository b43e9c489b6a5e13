"""The engine finds what is planted: otherwise a run without findings would say nothing."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import pytest

from tests.fuzz.bytewise import MAX_BYTES, damage_bytes
from tests.fuzz.engine import MAX_SECONDS, Campaign, Finding, Target, attempt, same
from tests.fuzz.mutation import damage_json, damage_text
from tests.fuzz.run import main

SECRET = secrets.token_hex(32)


def _target(decode: Any, **more: Any) -> Target:
    return Target("planted", lambda: [b'{"a":[1,2,{"b":"c"}],"d":null}'], decode, (ValueError,), **more)


def _forgets_objects(data: bytes) -> None:
    if isinstance(json.loads(data), dict) and not json.loads(data).get("a", [1]):
        raise KeyError("a")


def _quotes_its_input(data: bytes) -> None:
    raise ValueError(f"cannot read {data.decode('latin-1')}")


def _hides_its_input(data: bytes) -> None:
    try:
        json.loads(data + SECRET.encode())
    except ValueError:
        raise ValueError("no JSON") from None


def _takes_long(_data: bytes) -> None:
    end = time.process_time() + MAX_SECONDS + 0.1
    while time.process_time() < end:
        pass


def test_an_undocumented_error_is_found_and_its_input_shortened() -> None:
    campaign = Campaign(_target(_forgets_objects), seed=1)
    campaign.run(2.0)
    [data] = [found for kind, found in campaign.findings.items() if "KeyError" in kind]
    assert len(data) < 31
    assert campaign.inputs == campaign.accepted + campaign.refused + campaign.failed > 100
    with pytest.raises(Finding, match="KeyError is no documented refusal"):
        attempt(_target(_forgets_objects), data)


def test_an_oracle_that_does_not_hold_is_found() -> None:
    def says_otherwise(_data: bytes, value: Any) -> None:
        assert value != 1

    with pytest.raises(Finding, match="read, but: AssertionError"):
        attempt(_target(json.loads, accepted=says_otherwise), b"1")


def test_a_secret_in_an_error_is_found() -> None:
    planted = _target(_quotes_its_input, secrets=lambda: [SECRET])
    with pytest.raises(Finding, match="shows a piece of a secret"):
        attempt(planted, SECRET[20:31].encode())
    assert attempt(planted, SECRET[20:29].encode())[0] is False


def test_a_secret_in_a_suppressed_context_is_found_where_that_counts() -> None:
    with pytest.raises(Finding, match="JSONDecodeError shows"):
        attempt(_target(_hides_its_input, secrets=lambda: [SECRET], bare=True), b"?")
    assert attempt(_target(_hides_its_input, secrets=lambda: [SECRET]), b"?")[0] is False


def test_a_slow_input_is_found() -> None:
    with pytest.raises(Finding, match="of processor time"):
        attempt(_target(_takes_long), b"")


@pytest.mark.parametrize("mutate", [damage_bytes, damage_json, damage_text])
def test_one_seed_makes_the_same_inputs_again(mutate: Any) -> None:
    def inputs(seed: int) -> list[bytes]:
        made: list[bytes] = []

        def decode(data: bytes) -> None:
            made.append(data)

        campaign = Campaign(_target(decode, mutate=mutate), seed)
        campaign.run(0.2)
        return made

    first, again, other = inputs(7), inputs(7), inputs(8)
    least = min(map(len, (first, again, other)))
    assert first[:least] == again[:least] != other[:least]
    assert max(map(len, first)) <= MAX_BYTES
    assert len(set(first)) > len(first) / 4


def test_equal_is_of_the_same_type_all_the_way_down() -> None:
    assert same({"a": [1, None]}, {"a": [1, None]})
    assert not same({"a": [1]}, {"a": [1.0]})
    assert not same([True], [1])


def test_the_long_run_prints_its_table_and_ends_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0.5", "--seed", "3", "participant identifier"]) == 0
    table = capsys.readouterr().out
    assert "participant identifier" in table
    assert "seed 3" in table
