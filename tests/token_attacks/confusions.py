"""No algorithm, another algorithm, another one's key: what matters most where several kinds of tokens are accepted.

RFC 8725, sections 2.1, 2.2, 3.1 and 3.2; RFC 7515, sections 10.6 and 10.7; RFC 7518, section 3.6.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from frost_sidecar.encoding import b64url
from tests.token_attacks.case import UNKNOWN, Case, span
from tests.token_attacks.forge import ED, PUBLIC, Forge, as_json, integer, mac

M: Final = "token-malformed"
S: Final = "token-signature"


def _unsigned(forge: Forge, name: str, signature: str = "") -> str:
    head = b64url(as_json({**forge.header, "alg": name}))
    return f"{head}.{b64url(as_json(forge.claims()))}.{signature}"


def _unsigned_without_kid(forge: Forge) -> str:
    return f"{b64url(as_json({'alg': 'none'}))}.{b64url(as_json(forge.claims()))}."


def _named(forge: Forge, name: object) -> str:
    """A good signature under another algorithm's name."""
    return forge.token(alg=name)


def _spellings(forge: Forge) -> dict[str, bytes]:
    """What somebody who has only the public key may try as an HMAC secret."""
    public = forge.keys.public(forge.algorithm)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    jwk = forge.keys.jwk(forge.algorithm)
    if isinstance(public, rsa.RSAPublicKey):
        raw = public.public_numbers().n.to_bytes(256, "big")
        text = integer(public.public_numbers().n)
        other = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    else:
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        text = b64url(raw)
        other = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return {
        "PEM": pem,
        "PEM without its last line break": pem.rstrip(b"\n"),
        "PEM with carriage returns": pem.replace(b"\n", b"\r\n"),
        "DER": der,
        "another file format": other,
        "raw bytes": raw,
        "base64url": text.encode(),
        "hexadecimal": raw.hex().encode(),
        "JWK": as_json(jwk),
        "JWK with blanks": json.dumps(jwk, indent=2).encode(),
        "JWK set": as_json(forge.keys.jwk_set),
        "thumbprint": hashlib.sha256(
            as_json({name: jwk[name] for name in sorted(jwk) if name not in {"kid", "use"}})
        ).digest(),
    }


def _confused(forge: Forge, spelling: str, name: str = "HS256") -> str:
    """RS256 or EdDSA taken for HMAC (RFC 8725, section 2.1)."""
    key = _spellings(forge)[spelling]
    return forge.token(alg=name, sign=lambda data: mac(key, data))


_SPELLINGS: Final = (
    "PEM",
    "PEM without its last line break",
    "PEM with carriage returns",
    "DER",
    "another file format",
    "raw bytes",
    "base64url",
    "hexadecimal",
    "JWK",
    "JWK with blanks",
    "JWK set",
    "thumbprint",
)


def _weak(forge: Forge, key: bytes, **members: Any) -> str:
    """Signed with a key that may be guessed."""
    return forge.token(alg="HS256", sign=lambda data: mac(key, data), **members)


CASES: Final = (
    # no algorithm
    Case("none", lambda forge: _unsigned(forge, "none"), UNKNOWN, span(16, 344)),
    Case("none, without kid", _unsigned_without_kid, UNKNOWN, span(341)),
    Case(
        "none, kid none",
        lambda forge: f"{b64url(as_json({'alg': 'none', 'kid': 'none'}))}.{b64url(as_json(forge.claims()))}.",
        UNKNOWN,
        span(343),
    ),
    Case("NONE", lambda forge: _unsigned(forge, "NONE"), UNKNOWN, span(342)),
    Case("None", lambda forge: _unsigned(forge, "None"), UNKNOWN),
    Case("nOnE", lambda forge: _unsigned(forge, "nOnE"), UNKNOWN),
    *(
        Case(f"{name!r} with a signature", partial(_unsigned, name=name, signature="AA"), UNKNOWN)
        for name in ("none", "NONE", "nOnE", "none ", "none\0", "\u200bnone", "null", "")
    ),
    # another algorithm
    *(
        Case(f"a good signature under the name {name!r}", partial(_named, name=name), UNKNOWN)
        for name in ("HS1", "RS1", "ES256K", "Ed448", "EdDSA ", " HS256", "RS256\0", "SHA256")
    ),
    *(
        Case(f"a good signature under the name {name!r}", partial(_named, name=name), "token-unknown")
        for name in ("HS384", "HS512")
    ),
    Case("alg in lower case", lambda forge: _named(forge, forge.algorithm.lower()), UNKNOWN),
    Case(
        "alg with a letter of another script",
        lambda forge: _named(forge, forge.algorithm.replace("S", "\u0405").replace("2", "\u0968")),
        UNKNOWN,
    ),
    Case(
        "alg in full-width letters",
        lambda forge: _named(forge, "".join(chr(ord(each) + 0xFEE0) for each in forge.algorithm)),
        UNKNOWN,
    ),
    Case("no alg", lambda forge: forge.token(header={"typ": "JWT", "kid": forge.header["kid"]}), M),
    *(
        Case(f"alg is {kind}", partial(_named, name=value), M)
        for kind, value in (("null", None), ("a number", 256), ("true", True), ("an object", {"HS256": 1}))
    ),
    Case("alg is a list with the right one", lambda forge: _named(forge, [forge.algorithm]), M),
    *(
        Case(
            f"the public key as a secret: {each}",
            partial(_confused, spelling=each),
            "token-unknown",
            span(31) if each == "raw bytes" else (),
            PUBLIC,
        )
        for each in _SPELLINGS
    ),
    *(
        Case(
            f"the public key as a secret, {name}",
            partial(_confused, spelling="PEM", name=name),
            "token-unknown",
            (),
            PUBLIC,
        )
        for name in ("HS384", "HS512")
    ),
    *(
        Case(f"HMAC with {kind}", partial(_weak, key=key), S, (), ("HS256",))
        for kind, key in (
            ("an empty key", b""),
            ("zero bytes", bytes(32)),
            ("the word secret", b"secret"),
            ("the development secret", b"devsecret"),
            ("null", b"null"),
            ("None", b"None"),
            ("undefined", b"undefined"),
        )
    ),
    Case("HMAC with the kid as its key", lambda forge: _weak(forge, b"shared"), S, (), ("HS256",)),
    Case(
        "HMAC with the key's base64", lambda forge: _weak(forge, b64url(forge.keys.secret).encode()), S, (), ("HS256",)
    ),
    # the wrong key of the right set
    Case("RS256's kid", lambda forge: forge.token(kid="rsa-1"), "token-key", (), ED),
    Case("EdDSA's kid", lambda forge: forge.token(kid="ed-1"), "token-key", (), ("RS256",)),
    Case(
        "RS256's name and kid over an Ed25519 signature", lambda forge: forge.token(alg="RS256", kid="rsa-1"), S, (), ED
    ),
    Case(
        "EdDSA's name and kid over an RSA signature",
        lambda forge: forge.token(alg="EdDSA", kid="ed-1"),
        S,
        (),
        ("RS256",),
    ),
    Case("RS256's name over Ed25519's kid", lambda forge: forge.token(alg="RS256"), "token-key", (), ED),
    *(
        Case(
            f"kid: a path, HMAC with {kind}",
            partial(_weak, key=key, kid="../../../../dev/null"),
            S,
            (),
            ("HS256",),
        )
        for kind, key in (("nothing", b""), ("a line break", b"\n"))
    ),
)
