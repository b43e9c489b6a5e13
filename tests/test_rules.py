"""Every rule of ``[policies.NAME]``: what it refuses, for which reason, and the good message beside it."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from frost_sidecar.config import Config
from frost_sidecar.encoding import b64encode, b64url
from frost_sidecar.errors import ConfigError, Denied, MalformedRequest, Refusal
from frost_sidecar.jose import protected_header, signing_input, thumbprint
from frost_sidecar.jws import is_token, parse_jws
from frost_sidecar.model import JwsSigningInput
from frost_sidecar.patterns import matches
from frost_sidecar.process import convert
from frost_sidecar.rules import JwsRules
from frost_sidecar.signer import NodeConfig

PUBLIC = bytes(range(32))
KEY_ID = thumbprint(PUBLIC)
OTHER_KEY_ID = thumbprint(bytes(32))
NOW = 1_800_000_000
YEAR_9999 = 253_402_300_799
PAGE = (Path(__file__).parents[1] / "docs" / "policy.md").read_text("utf-8")

HEADER: dict[str, object] = {"alg": "EdDSA", "kid": KEY_ID, "typ": "JWT"}
CLAIMS: dict[str, object] = {
    "iss": "https://mint.example",
    "sub": "user:alice",
    "aud": "https://api.example",
    "iat": NOW,
    "exp": NOW + 300,
    "jti": "one",
}
NESTED = ".".join([b64url(b'{"alg":"none"}'), b64url(b'{"sub":"admin"}'), ""]).encode()


class _Gone:
    """Stands for a member that is not there."""


GONE = _Gone()
EMPTY: tuple[object, ...] = ("", [], {})
Change = Mapping[str, object]


def _changed(members: Mapping[str, object], change: Change) -> dict[str, object]:
    return {name: value for name, value in {**members, **change}.items() if value is not GONE}


def message(header: Change, claims: Change | bytes) -> bytes:
    """A signing input: the good one, changed; the claims may be any payload."""
    payload = claims if isinstance(claims, bytes) else json.dumps(_changed(CLAIMS, claims)).encode()
    return f"{b64url(json.dumps(_changed(HEADER, header)).encode())}.{b64url(payload)}".encode()


def rules(table: Mapping[str, Any]) -> JwsRules:
    read = convert(table, JwsRules, path="policies.p")
    read.validate("policies.p")
    return read


@dataclass(frozen=True)
class Row:
    """One rule: under ``table`` the good message is allowed, and the bad one is refused for ``reason``."""

    what: str
    reason: Refusal
    table: Mapping[str, Any] = field(default_factory=dict)
    bad_header: Change = field(default_factory=dict)
    bad: Change | bytes = field(default_factory=dict)
    good_header: Change = field(default_factory=dict)
    good: Change | bytes = field(default_factory=dict)


def header(what: str, reason: Refusal, bad: Change, good: Change | None = None, **table: Any) -> Row:
    return Row(what, reason, table, bad_header=bad, good_header=good or {})


def claims(what: str, reason: Refusal, bad: Change | bytes, good: Change | bytes | None = None, **table: Any) -> Row:
    return Row(what, reason, table, bad=bad, good={} if good is None else good)


URLS = ["https://api.example", "https://*.api.example"]
AUD: dict[str, Any] = {"aud": URLS}
SUB: dict[str, Any] = {"sub": ["user:*"]}
HOUR: dict[str, Any] = {"max_lifetime_seconds": 3600}

ROWS = [
    # alg (RFC 8725, sections 2.1 and 3.1)
    header("alg none", "jws-algorithm", {"alg": "none"}),
    header("alg None", "jws-algorithm", {"alg": "None"}),
    header("alg of a MAC", "jws-algorithm", {"alg": "HS256"}),
    header("alg of another key type", "jws-algorithm", {"alg": "RS256"}),
    header("alg in another case", "jws-algorithm", {"alg": "eddsa"}, {"alg": "Ed25519"}),
    header("alg with a zero byte", "jws-algorithm", {"alg": "EdDSA\x00"}),
    header("no alg", "jws-algorithm", {"alg": GONE}),
    header("alg as a list", "jws-algorithm", {"alg": ["EdDSA"]}),
    header("alg null", "jws-algorithm", {"alg": None}),
    header("alg that the table does not list", "jws-algorithm", {}, {"alg": "Ed25519"}, alg=["Ed25519"]),
    # kid
    header("kid of another key", "jws-key", {"kid": OTHER_KEY_ID}),
    header("no kid", "jws-key", {"kid": GONE}),
    header("kid of another key, where none is needed", "jws-key", {"kid": "x"}, {"kid": GONE}, kid_required=False),
    header("kid null, where none is needed", "jws-key", {"kid": None}, {"kid": GONE}, kid_required=False),
    header("kid that is a path", "jws-key", {"kid": "../../dev/null"}, {"kid": "2026-1"}, kid=["2026-1"]),
    header("kid with a blank", "jws-key", {"kid": KEY_ID + " "}),
    header("kid as a list", "jws-key", {"kid": [KEY_ID]}),
    # typ (RFC 8725, section 3.11) and cty
    header("another typ", "jws-type", {"typ": "at+jwt"}),
    header("no typ", "jws-type", {"typ": GONE}),
    header("JWT for an access token", "jws-type", {"typ": "JWT"}, {"typ": "at+jwt"}, typ=["at+jwt"]),
    header("no typ for an access token", "jws-type", {"typ": GONE}, {"typ": "application/AT+JWT"}, typ=["at+jwt"]),
    header("typ with a parameter", "jws-type", {"typ": "JWT;x=1"}, {"typ": "jwt"}),
    header("typ of another tree", "jws-type", {"typ": "text/JWT"}, {"typ": "application/jwt"}),
    header("typ twice prefixed", "jws-type", {"typ": "application/application/jwt"}, {"typ": "APPLICATION/JWT"}),
    header("typ with a look-alike letter", "jws-type", {"typ": "\u0408WT"}),
    header("typ as a list", "jws-type", {"typ": ["JWT"]}),
    header("typ null, where none is needed", "jws-type", {"typ": None}, {"typ": GONE}, typ_required=False),
    header("another typ, where none is needed", "jws-type", {"typ": "JOSE"}, {"typ": GONE}, typ_required=False),
    header("a JWT in the JWT", "jws-type", {"cty": "JWT"}),
    header("cty that no rule lists", "jws-type", {"cty": "json"}),
    header("another cty", "jws-type", {"cty": "jwt"}, {"cty": "application/Example"}, cty=["example"]),
    # crit (RFC 7515, section 4.1.11)
    header("crit", "jws-critical", {"crit": ["exp"], "exp": 1}),
    header("crit empty", "jws-critical", {"crit": []}, {"crit": ["x"], "x": 1}, crit=["x"]),
    header("crit of what is not there", "jws-critical", {"crit": ["x"]}, {"crit": ["x"], "x": 1}, crit=["x"]),
    header("crit twice", "jws-critical", {"crit": ["x", "x"], "x": 1}, {"crit": ["x"], "x": 1}, crit=["x"]),
    header("crit of another", "jws-critical", {"crit": ["x", "y"], "x": 1, "y": 1}, {"x": 1}, crit=["x"]),
    header("crit as text", "jws-critical", {"crit": "x", "x": 1}, {"crit": ["x"], "x": 1}, crit=["x"]),
    header("crit null", "jws-critical", {"crit": None}),
    header("crit of a number", "jws-critical", {"crit": ["x", 1], "x": 1}, {"crit": ["x"], "x": 1}, crit=["x"]),
    header("crit of a registered name", "jws-critical", {"crit": ["alg"]}),
    # the rest of the header (RFC 8725, sections 2.8 and 3.10)
    *(
        header(f"a header with {name}", "jws-header", {name: value})
        for name, value in {
            "jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64url(PUBLIC)},
            "jku": "https://evil.example/jwks",
            "x5u": "https://evil.example/cert",
            "x5c": ["AAAA"],
            "x5t": "AAAA",
            "x5t#S256": "AAAA",
            "enc": "A256GCM",
            "zip": "DEF",
            "b64": True,
            "Alg": "none",
            "KID": "x",
            "iss": "https://evil.example",
            "nonce": "x",
            "": 1,
        }.items()
    ),
    header("a member beside the one allowed", "jws-header", {"version": 1, "v": 1}, {"version": 1}, header=["version"]),
    # the payload
    claims("a payload that is no claims set", "jws-claims", b"[1]"),
    claims("an empty payload", "jws-claims", b""),
    claims("a token for payload", "jws-claims", NESTED, b"a document", payload="any"),
    claims("a token in blanks for payload", "jws-claims", b" " + NESTED + b"\n", b"a.b.c", payload="any"),
    claims("an encrypted token for payload", "jws-claims", NESTED + b".e.f", NESTED[:-1], payload="any"),
    claims(
        "claims that break a rule, where any payload is allowed",
        "jws-issuer",
        {"iss": "https://evil.example"},
        b"a document",
        payload="any",
        iss=["https://mint.example"],
    ),
    # iss, sub, aud
    claims("another iss", "jws-issuer", {"iss": "https://evil.example"}, iss=["https://mint.example"]),
    claims("no iss", "jws-issuer", {"iss": GONE}, iss=["https://mint.example"]),
    claims("iss with a slash more", "jws-issuer", {"iss": "https://mint.example/"}, iss=["https://mint.example"]),
    claims("iss in another case", "jws-issuer", {"iss": "https://Mint.example"}, iss=["https://mint.example"]),
    claims("iss as a list", "jws-issuer", {"iss": ["https://mint.example"]}, iss=["https://mint.example"]),
    claims("iss null, without a rule", "jws-issuer", {"iss": None}),
    claims("iss cut by a zero byte", "jws-issuer", {"iss": "https://evil.example\x00x"}, iss=["https://mint.example"]),
    claims("sub of another kind", "jws-subject", {"sub": "admin:alice"}, **SUB),
    claims("sub with nothing for the star", "jws-subject", {"sub": "user:"}, {"sub": "user:a"}, **SUB),
    claims("sub with a line end", "jws-subject", {"sub": "user:alice\n"}, **SUB),
    claims("sub with a blank", "jws-subject", {"sub": "user:alice admin"}, **SUB),
    claims("sub of another script", "jws-subject", {"sub": "user:\u0430lice"}, **SUB),
    claims("sub at another domain", "jws-subject", {"sub": "user:a@evil.example"}, {"sub": "user:a.b-c_d~1"}, **SUB),
    claims("sub too long", "jws-subject", {"sub": "user:" + "a" * 2044}, {"sub": "user:" + "a" * 2043}, **SUB),
    claims("sub as a number, without a rule", "jws-subject", {"sub": 1}),
    claims("aud of another", "jws-audience", {"aud": "https://evil.example"}, **AUD),
    claims(
        "aud with one of another",
        "jws-audience",
        {"aud": [*URLS[:1], "https://evil.example"]},
        {"aud": URLS[:1]},
        **AUD,
    ),
    claims("aud empty", "jws-audience", {"aud": []}, {"aud": ["https://a.api.example"]}, **AUD),
    claims("aud empty, without a rule", "jws-audience", {"aud": []}, {"aud": ["anything"]}),
    claims("no aud", "jws-audience", {"aud": GONE}, **AUD),
    claims("aud as an object, without a rule", "jws-audience", {"aud": {"a": 1}}),
    claims("aud of lists", "jws-audience", {"aud": [["https://api.example"]]}, {"aud": ["https://api.example"]}, **AUD),
    claims(
        "aud of 65", "jws-audience", {"aud": ["https://api.example"] * 65}, {"aud": ["https://api.example"] * 64}, **AUD
    ),
    claims("aud on another host, ending as ours", "jws-audience", {"aud": "https://evil.com/x.api.example"}, **AUD),
    claims("aud with our host as user", "jws-audience", {"aud": "https://evil@x.api.example"}, **AUD),
    claims("aud with our host as port", "jws-audience", {"aud": "https://evil:x.api.example"}, **AUD),
    claims("aud with our host as query", "jws-audience", {"aud": "https://evil?x.api.example"}, **AUD),
    claims("aud with our host as fragment", "jws-audience", {"aud": "https://evil#x.api.example"}, **AUD),
    claims("aud with a back slash", "jws-audience", {"aud": "https://evil\\x.api.example"}, **AUD),
    claims("aud with an escape", "jws-audience", {"aud": "https://evil%2fx.api.example"}, **AUD),
    claims("aud with a full-width stop", "jws-audience", {"aud": "https://x\uff0eapi.example"}, **AUD),
    claims("aud cut by a zero byte", "jws-audience", {"aud": "https://evil.com\x00.api.example"}, **AUD),
    claims(
        "aud that climbs", "jws-audience", {"aud": "https://a/t/.."}, {"aud": "https://a/t/1"}, aud=["https://a/t/*"]
    ),
    # times (RFC 7519, section 2)
    *(
        claims(f"{name} as {what}", "jws-claims", {name: value})
        for name in ("exp", "iat", "nbf")
        for what, value in {
            "text": str(NOW),
            "true": True,
            "null": None,
            "a list": [NOW],
            "a negative number": -1,
            "a number past all calendars": YEAR_9999 + 1,
            "a number with 400 digits": 10**399,
        }.items()
    ),
    claims("no exp", "jws-lifetime", {"exp": GONE}, **HOUR),
    claims("exp too late", "jws-lifetime", {"exp": NOW + 3601}, {"exp": NOW + 3600}, **HOUR),
    claims(
        "exp too late, and no iat",
        "jws-lifetime",
        {"exp": NOW + 3606, "iat": GONE},
        {"exp": NOW + 3605, "iat": GONE},
        **HOUR,
    ),
    claims(
        "exp too late for an old iat",
        "jws-lifetime",
        {"exp": NOW + 300, "iat": NOW - 3301},
        {"exp": NOW + 300, "iat": NOW - 3300},
        **HOUR,
    ),
    claims(
        "iat and exp of a later day",
        "jws-lifetime",
        {"iat": NOW + 86400, "exp": NOW + 86700},
        {"iat": NOW + 5, "exp": NOW + 3605},
        **HOUR,
    ),
    claims(
        "iat in the future, without a rule",
        "jws-lifetime",
        {"iat": NOW + 6, "exp": GONE},
        {"iat": NOW + 5, "exp": GONE},
    ),
    claims("iat beyond no leeway", "jws-lifetime", {"iat": NOW + 1}, leeway_seconds=0),
    claims("exp in parts of seconds too late", "jws-lifetime", {"exp": NOW + 3600.5}, {"exp": NOW + 3599.5}, **HOUR),
    # required, forbidden, allowed, values
    claims("no jti", "jws-claims", {"jti": GONE}, required=["jti"]),
    claims("a required claim that is null", "jws-claims", {"tenant": None}, {"tenant": 0}, required=["tenant"]),
    *(
        claims(
            f"a required claim with {value!r}", "jws-claims", {"tenant": value}, {"tenant": "a"}, required=["tenant"]
        )
        for value in EMPTY
    ),
    claims("a forbidden claim", "jws-claims", {"act": {}}, forbidden=["act"]),
    claims("a forbidden claim that is null", "jws-claims", {"act": None}, forbidden=["act"]),
    claims("a forbidden claim in another case", "jws-claims", {"ACT": {}}, {"actor": {}}, forbidden=["act"]),
    claims("iss in another case beside it", "jws-claims", {"Iss": "https://evil.example"}),
    claims("iss with a long s beside it", "jws-claims", {"i\u017fs": "https://evil.example"}),
    claims("sub in wide letters beside it", "jws-claims", {"\uff53ub": "admin"}),
    claims("EXP beside exp", "jws-claims", {"EXP": NOW * 2}),
    claims("a name with a zero byte", "jws-claims", {"sub\x00": "admin"}),
    claims("a name with a mark that nobody sees", "jws-claims", {"su\u200bb": "admin"}),
    claims("a name with a letter that nobody sees", "jws-claims", {"sub\u3164": "admin"}),
    claims("a name with a joiner that nobody sees", "jws-claims", {"su\u034fb": "admin"}),
    claims("a name with a blank behind it", "jws-claims", {"sub ": "admin"}, {"a name": "x"}),
    claims(
        "a required claim in another case beside it", "jws-claims", {"t": "a", "T": "b"}, {"t": "a"}, required=["t"]
    ),
    claims("a claim that is not allowed", "jws-claims", {"admin": True}, {"email": "a"}, allowed=["email"]),
    claims("an allowed claim in another case", "jws-claims", {"Email": "a"}, {"email": "a"}, allowed=["email"]),
    claims("any further claim", "jws-claims", {"email": "a"}, allowed=[]),
    claims("another value", "jws-claims", {"scope": "write"}, {"scope": "read"}, values={"scope": ["read"]}),
    claims(
        "a value beside the allowed one",
        "jws-claims",
        {"scope": "read write"},
        {"scope": "read"},
        values={"scope": ["read*", "read"]},
    ),
    claims(
        "one wrong value of a list",
        "jws-claims",
        {"roles": ["a", "root"]},
        {"roles": ["a", "b"]},
        values={"roles": ["a", "b"]},
    ),
    claims("no value", "jws-claims", {}, {"scope": "read"}, values={"scope": ["read"]}),
    claims("a value as a number", "jws-claims", {"tenant": 1}, {"tenant": "1"}, values={"tenant": ["*"]}),
    claims(
        "a value deep inside", "jws-claims", {"scope": {"scope": "read"}}, {"scope": "read"}, values={"scope": ["read"]}
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_what_is_refused_and_the_good_one_beside_it(row: Row) -> None:
    table = rules(row.table)
    good = parse_jws(message(row.good_header, row.good))
    assert good is not None
    table.check(good, KEY_ID, now=NOW)
    bad = parse_jws(message(row.bad_header, row.bad))
    with pytest.raises(Denied) as caught:
        table.check(bad, KEY_ID, now=NOW)
    assert caught.value.reason == row.reason
    assert len(str(caught.value)) < 1024
    assert str(caught.value).isprintable()


def test_the_table_is_large_and_names_every_reason() -> None:
    assert len(ROWS) == len({row.what for row in ROWS}) >= 110
    reasons = {each for each in get_args(Refusal) if each.startswith("jws-")}
    assert {row.reason for row in ROWS} == reasons


@pytest.mark.parametrize("text", [b"", b"plain", b"a.b", b"[1].[2]", message({}, {}) + b".signature"])
def test_what_is_no_jws_is_refused(text: bytes) -> None:
    with pytest.raises(Denied, match="no JWS signing input") as caught:
        rules({}).check(parse_jws(text), KEY_ID)
    assert caught.value.reason == "not-a-jws"


def test_what_has_no_protected_header_is_not_even_read() -> None:
    """In the JSON serialisation (RFC 7515, section 7.2) anybody could write one beside it."""
    for payload in (b"", json.dumps(CLAIMS).encode(), b"any"):
        if payload:
            with pytest.raises(MalformedRequest, match="without a protected header"):
                parse_jws(b"." + b64url(payload).encode())
    assert parse_jws(b".") is None
    assert parse_jws(b". not base64url") is None


def test_the_mints_own_tokens_keep_the_rules() -> None:
    table = rules({"typ": ["at+jwt"], "header": ["version"], **HOUR, **AUD})
    own = signing_input(protected_header(PUBLIC, typ="at+jwt", extra={"version": 2}), json.dumps(CLAIMS).encode())
    table.check(parse_jws(own), KEY_ID, now=NOW)
    with pytest.raises(Denied, match="kid must be"):
        table.check(parse_jws(own), OTHER_KEY_ID, now=NOW)


def test_the_clock_is_the_machines_where_no_time_is_given() -> None:
    now = int(time.time())
    table = rules(HOUR)
    table.check(parse_jws(message({}, {"iat": now, "exp": now + 3600})), KEY_ID)
    with pytest.raises(Denied, match="from now"):
        table.check(parse_jws(message({}, {"iat": now, "exp": now + 3700})), KEY_ID)


def test_no_value_is_too_deep_or_large_to_be_named() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (
        deep,
        {"a": deep},
        10**5000,
        "x" * 10**6,
        float("nan"),
        float("inf"),
        ["\ud800"] * 99,
        None,
        object(),
    ):
        for name in (*CLAIMS, "nbf", "x"):
            with pytest.raises(Denied):
                rules({"values": {"x": ["a"]}}).check(JwsSigningInput(HEADER, b"", {**CLAIMS, name: value}), KEY_ID)
        for name in ("alg", "kid", "typ", "cty", "crit", "x"):
            with pytest.raises(Denied):
                rules({}).check(JwsSigningInput({**HEADER, name: value}, b"", CLAIMS), KEY_ID, now=NOW)


WRONG_TABLES: dict[str, tuple[Mapping[str, Any], str]] = {
    "an unknown rule": ({"issuer": ["x"]}, "issuer"),
    "an alg that the key cannot make": ({"alg": ["RS256"]}, "alg"),
    "no alg at all": ({"alg": []}, "alg"),
    "no typ at all": ({"typ": []}, "typ"),
    "an empty media type": ({"typ": ["application/"]}, "typ"),
    "an empty content type": ({"cty": ["Application/"]}, "cty"),
    "a nested JWT": ({"cty": ["application/jwt"]}, "cty"),
    "crit of a registered name": ({"crit": ["b64"]}, "crit"),
    "a registered member": ({"header": ["jwk"]}, "header"),
    "a registered member in another case": ({"header": ["ALG"]}, "header"),
    "a claim in the header": ({"header": ["iss"]}, "header"),
    "two stars in the middle": ({"aud": ["https://**.example"]}, "aud"),
    "three stars": ({"sub": ["user:***"]}, "sub"),
    "a pattern with a line end": ({"iss": ["https://mint.example\n"]}, "iss"),
    "a pattern with a blank behind it": ({"iss": ["https://mint.example "]}, "iss"),
    "a pattern with a letter that nobody sees": ({"sub": ["user:\u3164*"]}, "sub"),
    "an empty pattern": ({"iss": [""]}, "iss"),
    "a value's pattern": ({"values": {"scope": ["a**b"]}}, "values.scope"),
    "a value that is a number": ({"values": {"exp": ["1"]}}, "values.exp"),
    "a required claim in another case": ({"required": ["Exp"]}, "required"),
    "a forbidden claim in another case": ({"forbidden": ["SUB"]}, "forbidden"),
    "an allowed claim in another case": ({"allowed": ["Aud"]}, "allowed"),
    "a value of a claim in another case": ({"values": {"Sub": ["a"]}}, "values"),
    "required and forbidden": ({"required": ["a"], "forbidden": ["a"]}, "forbidden"),
    "allowed and forbidden": ({"allowed": ["a"], "forbidden": ["a"]}, "forbidden"),
    "compared and forbidden": ({"iss": ["a"], "forbidden": ["iss"]}, "forbidden"),
    "a lifetime and no exp": ({"max_lifetime_seconds": 1, "forbidden": ["exp"]}, "forbidden"),
    "a lifetime of nothing": ({"max_lifetime_seconds": 0}, "max_lifetime_seconds"),
    "a leeway of an hour": ({"leeway_seconds": 3600}, "leeway_seconds"),
    "any other payload": ({"payload": "json"}, "payload"),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_table_that_cannot_be_meant_stops_the_start(name: str) -> None:
    table, place = WRONG_TABLES[name]
    with pytest.raises(ConfigError) as caught:
        rules(table)
    assert str(caught.value.path).startswith(f"policies.p.{place}")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["a", "a.b", "~", "...x"], ["", "a b", "a/b", "é", ".", ".."]),
        ("**", ["a", "é / b", "a@b:c?d#e"], ["", "a\n", "a\x00", "../a", "a/..", "a\\..\\b"]),
        ("a*", ["ab", "a."], ["a", "ba", "a/b"]),
        ("*a", ["ba", "aa"], ["a", "ab"]),
        ("a*b*c", ["a1b2c", "abbbc", "a.b.b.c"], ["abc", "abbc", "a1b2", "a/b2c"]),
        ("a*/*", ["ab/c"], ["ab/", "a/c", "ab/c/d"]),
        ("a/**", ["a/b", "a/b/c d"], ["a/", "a", "a/b/../c"]),
        ("*@*.example", ["a@b.example", "a@b.c.example"], ["a@.example", "a@b@c.example", "@b.example"]),
        ("a*//*", ["ab//c"], ["ab///c", "a//b"]),
        ("x", ["x"], ["X", "x ", "xx"]),
        ("a.c+", ["a.c+"], ["abc+", "a.cc"]),
        ("spiffe://td/ns/*/sa/*", ["spiffe://td/ns/a/sa/b"], ["spiffe://td/ns/a/b/sa/c", "spiffe://td/ns/../sa/b"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [each for each in yes if not matches(each, (pattern,))] == []
    assert [each for each in no if matches(each, (pattern,))] == []
    assert all(matches(each, ("nobody", pattern, "no*body")) for each in yes)


def test_a_pattern_of_many_stars_costs_little() -> None:
    hostile = "a" * 2000 + "!"
    started = time.perf_counter()
    for _ in range(100):
        assert not matches(hostile, ("*a" * 250 + "b",))
    assert time.perf_counter() - started < 5.0


def test_what_is_a_token() -> None:
    assert is_token(NESTED)
    assert is_token(NESTED.replace(b".", b"=.", 1))
    assert is_token(b64encode(b'{"alg":"none","x":"\xfb\xff"}').encode() + b".e30=.ab+/")
    assert is_token(NESTED[:4] + b"\r\n" + NESTED[4:])
    assert is_token(b'"' + NESTED + b'"\n')
    for payload in (b"", b"a.b.c", b"..", NESTED + b".x", NESTED + b"!", b"x" + NESTED):
        assert not is_token(payload)


def test_the_page_has_every_rule_with_its_default_and_reason() -> None:
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in PAGE.splitlines()
        if line.startswith("| `") and len(cells := [each.strip() for each in line.strip("|").split(" | ")]) == 5
    }
    fields = _fields()
    assert list(rows) == list(fields)
    for name, (default, _refuses, reasons, why) in rows.items():
        assert (None if default == "none" else tomllib.loads(f"x = {default.strip('`')}")["x"]) == fields[name]
        named = re.findall(r"`([a-z-]+)`", reasons)
        assert set(named) <= set(get_args(Refusal))
        assert why
    told = {each for _, _, reasons, _ in rows.values() for each in re.findall(r"`([a-z-]+)`", reasons)}
    assert told == {row.reason for row in ROWS}


def _fields() -> dict[str, Any]:
    """Each rule's default, as TOML would have it."""
    plain = JwsRules()
    values = {name: getattr(plain, name) for name in plain.__struct_fields__}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def test_the_pages_examples_are_configurations() -> None:
    blocks = re.findall(r"```toml\n# ([a-z-]+\.toml)[^\n]*\n(.*?)```", PAGE, re.DOTALL)
    kinds: dict[str, type[Config | NodeConfig]] = {"frost-sidecar.toml": Config, "signer.toml": NodeConfig}
    assert {name for name, _ in blocks} == set(kinds)
    needed: dict[str, Any] = {
        "frost-sidecar.toml": {
            "signers": [{"identifier": i, "url": f"https://signer-{i}.test", "zone": "a"} for i in (1, 2)]
        },
        "signer.toml": {"name": "signer-1"},
    }
    policies = []
    for name, block in blocks:
        read = kinds[name].build({**needed[name], **tomllib.loads(block)})
        policies.append(read.policies)
    assert policies[0] == policies[1] != {}
