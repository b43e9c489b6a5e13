"""Published attacks on JWT and JWS, made anew with fresh keys, against both token plugins in real servers.

The cases are RFC 8725's list and those of the JOSE files of Wycheproof: not copies of the published tokens, which speak
of other keys and carry no claims, but tokens of the same kind that are good but for the one fault. Each is shown to a
signer and to a coordinator's TCP listener, each refusal has its typed reason and is counted, and the good token beside
it is let in. docs/token-attacks.md has the whole list.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import ConfigError
from frost_sidecar.plugins import load
from frost_sidecar.signer import NodeConfig
from tests.token_attacks import confusions, curves, der, published, rsa
from tests.token_attacks.case import Case, reason_of_both
from tests.token_attacks.forge import ALGORITHMS, Algorithm, Forge, Keys
from tests.token_attacks.hosts import (
    Attacked,
    attacked_coordinator,
    attacked_signer,
    is_carried,
    is_sent,
    is_too_long,
    settings,
)
from tests.token_attacks.keysets import KEYS, NEUTRAL, SECOND, KeyCase, forge_under, key_set
from tests.token_attacks.published import CASES
from tests.token_attacks.weak_keys import roca_key

ORDERS = {"HS256 first": ["auth_hs256", "auth_eddsa_jwks"], "EdDSA first": ["auth_eddsa_jwks", "auth_hs256"]}
"""Both plugins, in the order in which they are asked: that of the configuration."""
FAULTY_KEYS = "faulty keys"
PLUGIN: dict[Algorithm, str] = {each: "auth_hs256" if each == "HS256" else "auth_eddsa_jwks" for each in ALGORITHMS}


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for the module, as its servers live as long; uvloop, as in their processes."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest.fixture(scope="module")
def attacker() -> Keys:
    return Keys()


@pytest.fixture(scope="module")
def second() -> Keys:
    """Another issuer that is trusted, whose keys stand in the set with a fault, and without one."""
    return Keys()


@pytest.fixture(scope="module")
async def hosts(keys: Keys, second: Keys) -> AsyncIterator[dict[tuple[str, str], Attacked]]:
    """Signer and coordinator: each plugin alone, both as while a fleet moves, and one with all the faulty keys."""
    found: dict[tuple[str, str], Attacked] = {}
    async with AsyncExitStack() as stack:
        for name, plugins, jwk_set in (
            ("auth_hs256", ["auth_hs256"], keys.jwk_set),
            ("auth_eddsa_jwks", ["auth_eddsa_jwks"], keys.jwk_set),
            *((order, plugins, keys.jwk_set) for order, plugins in ORDERS.items()),
            (FAULTY_KEYS, ["auth_eddsa_jwks"], key_set(keys, second)),
        ):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fs-")))
            sections = settings(keys, jwk_set, folder)
            chosen = {plugin: sections[plugin] for plugin in plugins}
            found[name, "signer"] = await stack.enter_async_context(attacked_signer(folder / "n", chosen))
            found[name, "coordinator"] = await stack.enter_async_context(attacked_coordinator(folder / "c", chosen))
        yield found


async def attack(host: Attacked, token: str, reason: str | None) -> None:
    """Show a token to a host; ``reason``: what the plugins must say, None where it is good."""
    if is_sent(token):
        answer = await host.show(token)
        if is_too_long(token):
            assert (answer.let_in, answer.reason, answer.status) == (False, None, 400)
        else:
            expected = reason if is_carried(token) else "token-missing"
            assert (answer.let_in, answer.reason) == (expected is None, expected)
            host.expected.update([] if expected is None else [expected])
    if is_too_long(token) or not is_carried(token):
        assert await host.ask_plugins(token) == reason


@pytest.mark.parametrize(
    ("case", "algorithm"),
    [pytest.param(case, algorithm, id=f"{case.name}-{algorithm}") for case in CASES for algorithm in case.algorithms],
)
async def test_each_attack_is_refused_for_its_reason(
    hosts: dict[tuple[str, str], Attacked], keys: Keys, attacker: Keys, case: Case, algorithm: Algorithm
) -> None:
    for kind in case.hosts:
        host = hosts[PLUGIN[algorithm], kind]
        forge = Forge(algorithm, keys, attacker, host.claims)
        await attack(host, case.make(forge), case.reason_for(algorithm))
        assert (await host.show(forge.token())).let_in


@pytest.mark.parametrize(
    ("case", "algorithm"),
    [
        pytest.param(case, algorithm, id=f"{case.name}-{algorithm}")
        for case in confusions.CASES
        for algorithm in case.algorithms
    ],
)
async def test_no_confusion_passes_where_both_plugins_are_asked(
    hosts: dict[tuple[str, str], Attacked], keys: Keys, attacker: Keys, case: Case, algorithm: Algorithm
) -> None:
    """The reason is that of the plugin that takes the token for its own: the shared secret's where HS256 is named."""
    for order, asked in ORDERS.items():
        for kind in case.hosts:
            host = hosts[order, kind]
            forge = Forge(algorithm, keys, attacker, host.claims)
            token = case.make(forge)
            await attack(host, token, reason_of_both(case, token, asked))
            assert (await host.show(forge.token())).let_in


@pytest.mark.parametrize("case", KEYS, ids=lambda case: case.name)
async def test_no_faulty_key_checks_tokens(
    hosts: dict[tuple[str, str], Attacked], second: Keys, attacker: Keys, case: KeyCase
) -> None:
    """The set has the key with the fault, and the same owner's key without it under another name."""
    for kind in ("signer", "coordinator"):
        host = hosts[FAULTY_KEYS, kind]
        forge = Forge(case.algorithm, second, attacker, host.claims)
        await attack(host, case.token(forge, second), str(case.reason))
        good = forge if case.algorithm != "HS256" else Forge("EdDSA", second, attacker, host.claims)
        assert (await host.show(good.token(kid=SECOND[good.algorithm]))).let_in


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_signer_lets_no_token_in_twice(
    hosts: dict[tuple[str, str], Attacked], keys: Keys, attacker: Keys, algorithm: Algorithm
) -> None:
    """RFC 7515, section 10.10."""
    host = hosts[PLUGIN[algorithm], "signer"]
    token = Forge(algorithm, keys, attacker, host.claims).token()
    await attack(host, token, None)
    await attack(host, token, "token-replayed")


@pytest.mark.parametrize(
    "secret",
    [b"", b"secret", bytes(range(31)), bytes(32), b"0123456789abcdef" * 2, b"correct horse battery password staple"],
    ids=["empty", "a word", "31 bytes", "zeros", "a pattern", "a word in it"],
)
def test_no_process_starts_with_a_weak_secret(secret: bytes) -> None:
    """RFC 8725, section 3.5: so there are no tokens under it to be refused."""

    def start(value: bytes) -> None:
        plugins = {"auth_hs256": {"secret_b64": b64encode(value)}}
        load(NodeConfig.build({"name": "signer-1", "clients": {"names": ["DNS:c"]}, "plugins": plugins}), "signer")

    with pytest.raises(ConfigError, match=r"^plugins\.auth_hs256\.secret_b64: "):
        start(secret)
    start(secrets.token_bytes(32))
    start(secrets.token_bytes(65))


# --- the attacks are real: who checks less is taken in ----------------------------------------------------------------


def test_a_lenient_verifier_takes_the_signatures_under_points_of_small_order() -> None:
    """OpenSSL's Ed25519 does: who has only that must refuse the key."""
    taken = set()
    for name, point in curves.small_order_points().items():
        data, signature = forge_under(point, lambda: secrets.token_bytes(16))
        Ed25519PublicKey.from_public_bytes(point).verify(signature, data)
        taken.add(name)
    assert len(taken) == 8
    assert NEUTRAL in curves.small_order_points().values()


def test_the_flawed_generators_key_has_its_mark() -> None:
    """CVE-2017-15361: the modulus is a power of 65537 modulo every small prime."""
    modulus = roca_key().public_key().public_numbers().n
    assert modulus.bit_length() in {2047, 2048}
    for prime in (3, 5, 7, 11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157):
        assert modulus % prime in {pow(65537, exponent, prime) for exponent in range(prime)}


def test_every_spelling_of_the_padding_is_another_one() -> None:
    """And the right one is none of them: it is accepted."""
    digest = hashlib.sha256(b"x").digest()
    spellings = dict(der.misspelt(digest))
    assert tuple(spellings) == rsa.MISSPELT
    assert len({*spellings.values(), der.digest_info(digest).encode()}) == len(spellings) + 1


# --- the page ---------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parent.parent / "docs" / "token-attacks.md").read_text("utf-8")
NAMES = (
    {case.name for case in CASES} | {case.name for case in KEYS} | {name for name in dir() if name.startswith("test_")}
)


def table(heading: str) -> list[str]:
    """The rows of the table below a heading."""
    lines = iter(PAGE.splitlines())
    while next(lines) != heading:
        pass
    below = itertools.takewhile(lambda line: not line.startswith("## "), lines)
    return [line for line in below if line.startswith("| ")][2:]


@pytest.mark.parametrize(
    ("heading", "numbers", "file"),
    [
        ("## json_web_signature_test", published.signature_numbers(), "signature"),
        ("## json_web_key_test", published.key_numbers(), "key"),
    ],
)
def test_each_published_case_has_one_of_ours(heading: str, numbers: dict[str, tuple[int, ...]], file: str) -> None:
    assert sorted(itertools.chain(*numbers.values())) == list(range(1, published.COUNTS[file] + 1))
    assert table(heading) == published.rows(numbers)
    assert all(published.matching(name, NAMES) for name in numbers)


def test_the_page_names_every_case_and_none_that_is_not_there() -> None:
    rows = [row.split(" | ") for heading in ("## RFC 8725", "## RFC 7515, 7518 and 7519") for row in table(heading)]
    assert [row[0].removeprefix("| ").split()[0] for row in rows[:21]] == [
        *(f"2.{number}" for number in range(1, 10)),
        *(f"3.{number}" for number in range(1, 13)),
    ]
    named: set[str] = set()
    for row in rows:
        patterns = re.findall(r"`([^`]+)`", row[2])
        assert patterns, row
        for pattern in patterns:
            found = published.matching(pattern, NAMES)
            assert found, pattern
            named |= found
    assert {name for name in NAMES if not name.startswith("test_")} - named == set()


def test_the_page_counts_right() -> None:
    tokens = sum(len(case.algorithms) * len(case.hosts) for case in CASES)
    faulty = len(KEYS) * 2
    assert f"{len(CASES)} kinds of tokens" in PAGE
    assert f"{len(KEYS)} faulty keys" in PAGE
    assert f"{tokens + faulty:,} attempts" in PAGE
    assert all(f"{count} cases" in PAGE for count in published.COUNTS.values())


# --- last, whatever ran before ----------------------------------------------------------------------------------------


async def test_every_refusal_was_counted_once_under_its_reason(hosts: dict[tuple[str, str], Attacked]) -> None:
    """Also where this test alone is run: then there was none."""
    for host in hosts.values():
        assert await host.counted() == host.expected
