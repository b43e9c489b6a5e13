"""Who a caller on TCP is: the name of its certificate, and the subject and times of its token."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import Authenticator, Credentials, Identity, PluginContext
from frost_sidecar.testing.sidecar import CLIENT_NAME, MemorySidecar

BODY = {"msg_b64": base64.b64encode(b"header.payload").decode()}
NOW = 1_900_000_000.0
LEEWAY = 2.0


async def answered(sidecar: MemorySidecar, **how: Any) -> tuple[int, str]:
    """Status and problem type of one request to sign; "" where it was signed."""
    async with sidecar.calling(**how) as http, http.post("/sign", json=BODY) as response:
        answer = await response.json(content_type=None)
    return response.status, answer.get("type", "")


REFUSED = 401, "urn:frost-sidecar:error:unauthenticated"
SIGNED = 200, ""


# --- the certificate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sans", [["aaa.frost.test", CLIENT_NAME], [CLIENT_NAME, "aaa.frost.test"]])
async def test_of_several_names_the_configured_one_is_the_callers(short_path: Path, sans: list[str]) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving():
        assert await answered(sidecar, files=sidecar.authority.issue("several", sans)) == SIGNED
    assert [record.caller for record in sidecar.cluster.records] == [f"tcp:DNS:{CLIENT_NAME} mint"]


@pytest.mark.parametrize("first", ["DNS:aaa.frost.test", f"DNS:{CLIENT_NAME}"])
async def test_of_several_configured_names_the_first_in_the_configuration_is_the_callers(
    short_path: Path, first: str
) -> None:
    names = sorted(["DNS:aaa.frost.test", f"DNS:{CLIENT_NAME}"], key=lambda name: name != first)
    sidecar = MemorySidecar(short_path, tcp=True, server={"client_names": names})
    files = sidecar.authority.issue("several", ["aaa.frost.test", CLIENT_NAME])
    async with sidecar.serving():
        assert await answered(sidecar, files=files) == SIGNED
    assert [record.caller for record in sidecar.cluster.records] == [f"tcp:{first} mint"]


NOBODY = {"a blank": "a b", "a comma": f"a,DNS:{CLIENT_NAME}", "a line feed": "a\nb", "a delete": "a\x7f"}


@pytest.mark.parametrize("kind", NOBODY)
async def test_a_name_that_is_not_plain_text_names_nobody(short_path: Path, kind: str) -> None:
    """Where any certificate of the authority may call, a name that could be read as two, or as none, is no caller."""
    sidecar = MemorySidecar(short_path, tcp=True, dev=True, server={"client_names": []})
    alone = sidecar.authority.issue("alone", [NOBODY[kind]])
    beside = sidecar.authority.issue("beside", [NOBODY[kind], "zzz.frost.test"])
    async with sidecar.serving():
        assert await answered(sidecar, files=alone) == (403, "urn:frost-sidecar:error:denied")
        assert sidecar.cluster.records == []
        assert await answered(sidecar, files=beside) == SIGNED
    assert [record.caller for record in sidecar.cluster.records] == ["tcp:DNS:zzz.frost.test mint"]


async def test_the_keys_are_for_certificates_that_may_call(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    stranger = sidecar.authority.issue("stranger", ["stranger.frost.test"])
    async with sidecar.serving():
        async with sidecar.calling(stranger) as http, http.get("/keys") as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["type"]) == (403, "urn:frost-sidecar:error:denied")
            assert "keys" not in problem
        async with sidecar.calling() as http, http.get("/keys") as response:
            assert response.status == 200
            assert "default" in (await response.json())["keys"]


# --- the token's subject ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["mint\nroot", "mint\r", "mint\x00", "mint\x1b[2J", "\x7f", "mint\u2028root", ""])
async def test_a_subject_that_cannot_be_printed_is_nobody(short_path: Path, subject: str) -> None:
    """It goes into the audit record and the log, where a line break would begin a record of the caller's own."""
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving():
        assert await answered(sidecar, token=sidecar.token(subject)) == REFUSED
        assert await answered(sidecar, token=sidecar.token("m\u00efnt at home")) == SIGNED
    assert [record.caller for record in sidecar.cluster.records] == [f"tcp:DNS:{CLIENT_NAME} m\u00efnt at home"]


@pytest.mark.parametrize(("length", "expected"), [(256, SIGNED), (257, REFUSED)])
async def test_the_longest_subject(short_path: Path, length: int, expected: tuple[int, str]) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving():
        assert await answered(sidecar, token=sidecar.token("m" * length)) == expected


class Answering(Authenticator):
    """Answers every token in the same way, as the plugin that makes it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        self.asked += 1
        answer: Identity | None = self.answer
        return answer

    @hookimpl
    def make_authenticator(self, context: PluginContext) -> Authenticator:
        return self


@pytest.mark.parametrize("answer", ["mint", True, {"sub": "mint"}, ("mint", "x", {}), False, "", 0], ids=repr)
async def test_what_is_no_identity_refuses_and_no_other_authenticator_is_asked(
    short_path: Path, answer: object
) -> None:
    broken, willing = Answering(answer), Answering(Identity("mint", "willing", {}))
    sidecar = MemorySidecar(short_path, tcp=True, plugins={"broken": broken, "willing": willing})
    async with sidecar.serving():
        assert await answered(sidecar, token="known-to-no-other") == REFUSED
        assert (broken.asked, willing.asked) == (1, 0)
        assert sidecar.cluster.records == []
        broken.answer = None  # "not mine": then the next one is asked
        assert await answered(sidecar, token="known-to-no-other") == SIGNED
    assert (broken.asked, willing.asked) == (2, 1)


# --- the token's times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [True, False])
async def test_a_truth_value_is_no_time(short_path: Path, name: str, value: bool) -> None:  # noqa: FBT001 - a case
    """Python counts True as 1: a moment in 1970, at which every ``nbf`` and ``iat`` is over."""
    sidecar = MemorySidecar(short_path, tcp=True)
    times: dict[str, Any] = {"exp": time.time() + 3600, name: value}
    async with sidecar.serving():
        async with sidecar.calling(token=sidecar.token(**times)) as http, http.post("/sign", json=BODY) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == REFUSED
        assert f"{name} is not a number" in problem["detail"]
    assert sidecar.cluster.records == []


TIMES = [
    ("exp", -LEEWAY - 1, REFUSED),
    ("exp", -LEEWAY, REFUSED),
    ("exp", -LEEWAY + 1, SIGNED),
    ("nbf", LEEWAY - 1, SIGNED),
    ("nbf", LEEWAY, SIGNED),
    ("nbf", LEEWAY + 1, REFUSED),
    ("iat", LEEWAY - 1, SIGNED),
    ("iat", LEEWAY, SIGNED),
    ("iat", LEEWAY + 1, REFUSED),
]


@pytest.mark.parametrize(("name", "offset", "expected"), TIMES)
async def test_the_difference_of_clocks_that_is_forgiven(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, offset: float, expected: tuple[int, str]
) -> None:
    monkeypatch.setattr("frost_sidecar.access.time", SimpleNamespace(time=lambda: NOW))
    sidecar = MemorySidecar(short_path, tcp=True, server={"token": {"leeway_seconds": LEEWAY}})
    times: dict[str, Any] = {"exp": NOW + 60, name: NOW + offset}
    token = sidecar.token(**times)
    async with sidecar.serving():
        assert await answered(sidecar, token=token) == expected


async def test_without_leeway_a_token_ends_on_the_second(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frost_sidecar.access.time", SimpleNamespace(time=lambda: NOW))
    sidecar = MemorySidecar(short_path, tcp=True, server={"token": {"leeway_seconds": 0}})
    async with sidecar.serving():
        assert await answered(sidecar, token=sidecar.token(exp=NOW)) == REFUSED
        assert await answered(sidecar, token=sidecar.token(exp=NOW + 1, nbf=NOW, iat=NOW)) == SIGNED
