"""Keys and tokens in the form of JOSE: what is signed, what is refused, and that independent verifiers accept it."""

from __future__ import annotations

import base64
import json
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import jwt
import nacl.signing
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as joserfc_jws
from joserfc import jwt as joserfc_jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet
from jwt.algorithms import OKPAlgorithm

from frost_sidecar.errors import ConfigError, MalformedRequest
from frost_sidecar.jose import (
    ALGORITHMS,
    OWN_MEMBERS,
    Algorithm,
    assemble,
    claims_payload,
    joserfc_key,
    jwk_set,
    okp_jwk,
    protected_header,
    pyjwt_key,
    signing_input,
    thumbprint,
)
from frost_sidecar.jws import parse_jws

# RFC 8037, appendix A: the public key, its thumbprint, and the JWS signed with it.
RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_PUBLIC = base64.urlsafe_b64decode(RFC_X + "=")
RFC_INPUT = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
RFC_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
LARGEST = 2**53 - 1
REGISTERED = {"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4)
)
claim_sets = st.dictionaries(st.text(max_size=12).filter(lambda name: name not in REGISTERED), values, max_size=6)


def mint(claims: Mapping[str, Any], alg: Algorithm = "EdDSA", **header: Any) -> str:
    message = signing_input(protected_header(PUBLIC, alg=alg, typ="JWT", extra=header), claims_payload(claims))
    return assemble(message, KEY.sign(message))


def pyjwt_claims(token: str, alg: Algorithm, jwks: dict[str, Any]) -> Any:
    """As a verifier does that got the key set; PyJWT knows RFC 9864 only when told."""
    key = jwt.PyJWKSet.from_dict(jwks)[jwt.get_unverified_header(token)["kid"]]
    if alg == "EdDSA":
        return jwt.decode(token, key, algorithms=["EdDSA"])
    verifier = jwt.PyJWS()
    verifier.register_algorithm("Ed25519", OKPAlgorithm())
    return json.loads(verifier.decode(token, key.key, algorithms=["Ed25519"]))


def joserfc_claims(token: str, alg: Algorithm, jwks: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # it says that RFC 9864 deprecates EdDSA
        return joserfc_jwt.decode(token, KeySet.import_key_set(jwks), algorithms=[alg]).claims


def test_the_thumbprint_is_that_of_rfc_8037_appendix_a3() -> None:
    assert thumbprint(RFC_PUBLIC) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_jwk_is_that_of_rfc_8037_appendix_a2() -> None:
    assert okp_jwk(RFC_PUBLIC) == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": RFC_X,
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "use": "sig",
    }
    assert "alg" not in okp_jwk(RFC_PUBLIC)


def test_the_jws_is_that_of_rfc_8037_appendix_a4() -> None:
    message = signing_input({"alg": "EdDSA"}, b"Example of Ed25519 signing")
    assert message == RFC_INPUT
    token = assemble(message, base64.urlsafe_b64decode(RFC_SIGNATURE + "=="))
    assert token == f"{RFC_INPUT.decode()}.{RFC_SIGNATURE}"
    assert jwt.PyJWS().decode(token, pyjwt_key(RFC_PUBLIC), algorithms=["EdDSA"]) == b"Example of Ed25519 signing"
    with pytest.warns(SecurityWarning, match="RFC 9864"):
        decoded = joserfc_jws.deserialize_compact(token, joserfc_key(RFC_PUBLIC), algorithms=["EdDSA"])
    assert decoded.payload == b"Example of Ed25519 signing"


def test_a_key_set_has_each_key_once_in_order() -> None:
    keys = jwk_set([PUBLIC, RFC_PUBLIC, PUBLIC])["keys"]
    assert [each["kid"] for each in keys] == [thumbprint(PUBLIC), thumbprint(RFC_PUBLIC)]
    assert jwk_set([]) == {"keys": []}


@given(claims=claim_sets, alg=st.sampled_from(ALGORITHMS))
def test_any_claims_come_back_from_every_verifier(claims: dict[str, Any], alg: Algorithm) -> None:
    token = mint(claims, alg)
    jwks = jwk_set([RFC_PUBLIC, PUBLIC])
    assert pyjwt_claims(token, alg, jwks) == claims
    assert joserfc_claims(token, alg, jwks) == claims
    message, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    nacl.signing.VerifyKey(PUBLIC).verify(message.encode(), raw)
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(raw, message.encode())


@given(claims=claim_sets, alg=st.sampled_from(ALGORITHMS))
def test_every_token_has_one_reading_for_the_policies(claims: dict[str, Any], alg: Algorithm) -> None:
    read = parse_jws(mint(claims, alg).rpartition(".")[0].encode())
    assert read is not None
    assert read.header == {"alg": alg, "kid": thumbprint(PUBLIC), "typ": "JWT"}
    assert read.claims == claims


@given(claims=claim_sets)
def test_equal_claims_are_equal_bytes(claims: dict[str, Any]) -> None:
    assert claims_payload(dict(reversed(claims.items()))) == claims_payload(claims)


@given(token=claim_sets.map(mint), data=st.data())
def test_one_changed_character_is_refused(token: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(token) - 2))  # the last one carries bits that some decoders ignore
    other = data.draw(st.sampled_from("abcdwxyz0189-_").filter(lambda each: each != token[position]))
    changed = token[:position] + other + token[position + 1 :]
    with pytest.raises((jwt.PyJWTError, InvalidSignature)):
        jwt.decode(changed, pyjwt_key(PUBLIC), algorithms=["EdDSA"])


class Role(StrEnum):
    ADMIN = "admin"


class Level(IntEnum):
    HIGH = 3


def test_what_is_json_in_other_clothes_is_taken_as_json() -> None:
    claims = MappingProxyType({"roles": (Role.ADMIN, "user"), "level": Level.HIGH, "nested": MappingProxyType({})})
    assert json.loads(claims_payload(claims)) == {"roles": ["admin", "user"], "level": 3, "nested": {}}


def nested(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"at": datetime.now(UTC)}, "claims.at: a datetime is not JSON"),
        ({"a": {"b": [1, b"x"]}}, r"claims.a.b\[1\]: a bytes is not JSON"),
        ({"a": Decimal(1)}, "claims.a: a Decimal is not JSON"),
        ({"a": Fraction(1)}, "claims.a: a Fraction is not JSON"),
        ({"a": uuid4()}, "claims.a: a UUID is not JSON"),
        ({"a": {1, 2}}, "claims.a: a set is not JSON"),
        ({"a": iter([])}, "claims.a: a list_iterator is not JSON"),
        ({"a": bytearray(b"x")}, "claims.a: a bytearray is not JSON"),
        ({"a": float("nan")}, "claims.a: NaN and infinity"),
        ({"a": [float("-inf")]}, r"claims.a\[0\]: NaN and infinity"),
        ({"a": 2**53}, r"claims.a: is more than 2\*\*53 - 1"),
        ({"a": -(2**53)}, r"claims.a: is more than 2\*\*53 - 1"),
        ({1: "a"}, "claims: the member '1' is a int; names are text"),
        ({"a": {None: 1}}, "claims.a: the member 'None' is a NoneType"),
        ({b"a": 1}, "is a bytes; names are text"),
        ({"a": "\ud800"}, "claims.a: half of a surrogate pair"),
        ({"\udfff": 1}, "claims: a member's name: half of a surrogate pair"),
        ({"a": nested(32)}, "nested more than 32 deep"),
        ({"iss": 1}, "claims.iss: must be text"),
        ({"sub": None}, "claims.sub: must be text"),
        ({"jti": 7}, "claims.jti: must be text"),
        ({"exp": 1.5}, "claims.exp: must be whole seconds"),
        ({"exp": "1700000000"}, "claims.exp: must be whole seconds"),
        ({"nbf": True}, "claims.nbf: must be whole seconds"),
        ({"iat": datetime.now(UTC)}, "claims.iat: a datetime is not JSON"),
        ({"iat": None}, "claims.iat: must be whole seconds"),
        ({"aud": 5}, "claims.aud: must be text or a list of texts"),
        ({"aud": ["a", 5]}, "claims.aud: must be text or a list of texts"),
        ([("a", 1)], "claims: must be a JSON object, not list"),
        ("{}", "claims: must be a JSON object, not str"),
        (None, "claims: must be a JSON object, not NoneType"),
    ],
)
def test_what_is_no_json_is_refused_by_its_place(claims: Any, said: str) -> None:
    with pytest.raises(MalformedRequest, match=said):
        claims_payload(claims)


def test_a_claim_inside_itself_is_refused() -> None:
    claims: dict[str, Any] = {}
    claims["self"] = claims
    with pytest.raises(MalformedRequest, match="nested more than 32 deep"):
        claims_payload(claims)


def test_a_member_that_only_looks_different_is_refused() -> None:
    class Twin(str):
        __slots__ = ()
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    with pytest.raises(MalformedRequest, match="claims: a member stands twice"):
        claims_payload({Twin("admin"): False, Twin("admin"): True})


def test_the_deepest_claims_are_read_by_everyone() -> None:
    claims = {"a": nested(31)}
    assert pyjwt_claims(mint(claims), "EdDSA", jwk_set([PUBLIC])) == claims


def test_refused_claims_are_not_in_the_error() -> None:
    with pytest.raises(MalformedRequest) as caught:
        claims_payload({"token": b"hunter2", "name": "alice"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(MalformedRequest) as caught:
        claims_payload({"x" * 5000: {"y" * 5000: b""}})
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", sorted(OWN_MEMBERS))
def test_header_members_that_could_contradict_are_refused(name: str) -> None:
    with pytest.raises(MalformedRequest, match=rf"header.{name}: cannot be added"):
        protected_header(PUBLIC, extra={name: "x"})


@pytest.mark.parametrize("name", ["Alg", "KID", "TYP", "B64", "Crit", "X5T#s256", "\u017fub", "Exp", "AUD", "JTI"])
def test_names_that_differ_from_registered_ones_in_case_alone_are_refused(name: str) -> None:
    if name in {"\u017fub", "Exp", "AUD", "JTI"}:  # the first has a long s, whose case folds to s
        with pytest.raises(MalformedRequest, match=rf"claims.{name}: differs from {name.casefold()} in case alone"):
            claims_payload({"inner": {name: 1}, name: "x"})
        assert (
            claims_payload({"inner": {name: 1}})
            == json.dumps({"inner": {name: 1}}, separators=(",", ":"), ensure_ascii=False).encode()
        )
    else:
        with pytest.raises(MalformedRequest, match=rf"header.{name}: differs from .* in case alone"):
            protected_header(PUBLIC, extra={name: "x"})


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": []},
        {"crit": "ext", "ext": 1},
        {"crit": ["ext"]},
        {"crit": ["ext", "ext"], "ext": 1},
        {"crit": ["cty"], "cty": "json"},
        {"crit": ["alg"]},
        {"crit": ["b64"]},
        {"crit": ["crit"]},
        {"crit": [1]},
        {"crit": [["ext"]], "ext": 1},
        {"crit": None},
    ],
)
def test_a_crit_that_no_verifier_may_accept_is_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(MalformedRequest, match=r"header.crit"):
        protected_header(PUBLIC, extra=extra)


def test_further_header_members_are_signed() -> None:
    header = protected_header(PUBLIC, alg="Ed25519", typ="at+jwt", extra={"cty": "x", "crit": ["ext"], "ext": [1]})
    assert header == {
        "alg": "Ed25519",
        "kid": thumbprint(PUBLIC),
        "typ": "at+jwt",
        "cty": "x",
        "crit": ["ext"],
        "ext": [1],
    }
    read = parse_jws(signing_input(header, b"not json"))
    assert read is not None
    assert (read.header, read.payload, read.claims) == (header, b"not json", None)


def test_headers_and_payloads_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(MalformedRequest, match=r"header.typ: must be text, not int"):
        protected_header(PUBLIC, typ=1)  # type: ignore[arg-type]
    with pytest.raises(MalformedRequest, match=r"header.ext: a bytes is not JSON"):
        protected_header(PUBLIC, extra={"ext": b""})
    with pytest.raises(MalformedRequest, match="header: must be a JSON object, not list"):
        protected_header(PUBLIC, extra=["ext"])  # type: ignore[arg-type]
    with pytest.raises(MalformedRequest, match="the payload must be bytes, not str"):
        signing_input({}, "text")  # type: ignore[arg-type]
    with pytest.raises(MalformedRequest, match=r"header.n: NaN"):
        signing_input({"n": float("nan")}, b"")


@given(payload=st.binary(max_size=200))
def test_any_bytes_can_be_the_payload(payload: bytes) -> None:
    message = signing_input(protected_header(PUBLIC), memoryview(payload))  # type: ignore[arg-type]
    token = assemble(message, KEY.sign(message))
    assert jwt.PyJWS().decode(token, pyjwt_key(PUBLIC), algorithms=["EdDSA"]) == payload


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("jwt", "joserfc", "joserfc.jwk"):
        monkeypatch.setitem(sys.modules, module, None)


def test_a_missing_verifier_is_named(nothing_installed: None) -> None:
    with pytest.raises(ConfigError, match="install pyjwt"):
        pyjwt_key(PUBLIC)
    with pytest.raises(ConfigError, match="install joserfc"):
        joserfc_key(PUBLIC)
