"""Tokens of a wrong shape: parts left out or too many, other serialisations, other spellings of base64url.

RFC 7515, sections 2, 5.2, 7.1 and 7.2; RFC 7516; RFC 7519, section 11.2.
"""

from __future__ import annotations

import json
from typing import Final

from joserfc import jwe
from joserfc.jwk import OctKey

from frost_sidecar.encoding import b64url
from tests.token_attacks.case import Case, span
from tests.token_attacks.forge import ALGORITHMS, ED, Forge, as_json

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _parts(forge: Forge, template: str) -> str:
    """A good token's header, payload and signature (h, p, s) put together otherwise."""
    named = dict(zip("hps", forge.parts(), strict=True))
    return "".join(named.get(each, each) for each in template)


def _flip(text: str, index: int = 0) -> str:
    """Another character of the alphabet at one place."""
    index %= len(text)
    other = _ALPHABET[(_ALPHABET.index(text[index]) + 16) % 64]
    return text[:index] + other + text[index + 1 :]


def _changed(forge: Forge, part: int) -> str:
    parts = list(forge.parts())
    parts[part] = _flip(parts[part], len(parts[part]) // 2)
    return ".".join(parts)


def _other_header(forge: Forge) -> str:
    """Still JSON, still of this algorithm; only the signature is not over it."""
    _, payload, signature = forge.parts()
    return f"{b64url(as_json({**forge.header, 'note': 'x'}))}.{payload}.{signature}"


def _other_payload(forge: Forge) -> str:
    header, _, signature = forge.parts()
    return f"{header}.{b64url(as_json(forge.claims(sub='somebody-else')))}.{signature}"


def _inserted(forge: Forge, part: int, text: str, *, at: int = 0, signed: bool = True) -> str:
    """Characters that do not belong there, before or after a part; with ``signed`` the signature is over them."""
    parts = list(forge.parts())
    parts[part] = parts[part] + text if at else text + parts[part]
    if signed and part < 2:
        parts[2] = b64url(forge.sign(".".join(parts[:2])))
    return ".".join(parts)


def _spare_bits(forge: Forge, part: int) -> str:
    """Another spelling of the same bytes: the last character's unused bits are not zero (RFC 4648, section 3.5)."""
    parts = list(forge.parts())
    if part == 0:
        parts[0] = b64url(_padded(as_json(forge.header)))
    if part == 1:
        parts[1] = b64url(_padded(as_json(forge.claims())))
    last = parts[part][-1]
    parts[part] = parts[part][:-1] + _ALPHABET[_ALPHABET.index(last) + 1]
    if part < 2:
        parts[2] = b64url(forge.sign(".".join(parts[:2])))
    return ".".join(parts)


def _padded(text: bytes) -> bytes:
    """JSON with blanks, so that its length leaves spare bits in base64."""
    return text if len(text) % 3 else text + b" "


def _standard_alphabet(forge: Forge) -> str:
    """Signed over the standard alphabet, with one of its two own characters in it for sure."""
    payload = as_json(forge.claims(note="?>?>?>~~~"))
    text = f"{b64url(as_json(forge.header))}.{b64url(payload).replace('-', '+').replace('_', '/')}"
    return forge.signed(text)


def _padding(forge: Forge, part: int) -> str:
    """Padded base64url, which RFC 7515, section 2 leaves out; signed as it stands."""
    parts = [b64url(_padded(as_json(forge.header))), b64url(_padded(as_json(forge.claims())))]
    if part < 2:
        parts[part] += "=" * (-len(parts[part]) % 4)
    token = forge.signed(".".join(parts))
    return token if part < 2 else token + "=" * (-len(token.rpartition(".")[2]) % 4)


def _flattened(forge: Forge) -> str:
    header, payload, signature = forge.parts()
    return json.dumps({"protected": header, "payload": payload, "signature": signature})


def _general(forge: Forge, **unprotected: object) -> str:
    header, payload, signature = forge.parts()
    one = {"protected": header, "header": {"unknown": "untrustworthy", **unprotected}, "signature": signature}
    return json.dumps({"payload": payload, "signatures": [one]})


def _unprotected_algorithm(forge: Forge) -> str:
    """The algorithm where the signature does not cover it (RFC 7515, section 10.7)."""
    payload = b64url(as_json(forge.claims()))
    signature = b64url(forge.sign(f".{payload}"))
    return json.dumps({"header": forge.header, "payload": payload, "signature": signature})


def _two_signatures(forge: Forge) -> str:
    """One good, one empty: a reader may be content with either."""
    header, payload, signature = forge.parts()
    none = {"protected": b64url(b'{"alg":"none"}'), "signature": ""}
    return json.dumps({"payload": payload, "signatures": [none, {"protected": header, "signature": signature}]})


def _encrypted(forge: Forge, algorithm: str, encryption: str) -> str:
    """A JWE of good claims with a key that is everybody's, the forge's secret where the algorithm takes 32 bytes."""
    key = OctKey.import_key(forge.keys.secret)
    return jwe.encrypt_compact(
        {"alg": algorithm, "enc": encryption}, as_json(forge.claims()), key, [algorithm, encryption]
    )


def _encrypted_flattened(forge: Forge) -> str:
    """The same as JSON (RFC 7516, section 7.2.2)."""
    parts = _encrypted(forge, "A256KW", "A256GCM").split(".")
    return json.dumps(dict(zip(("protected", "encrypted_key", "iv", "ciphertext", "tag"), parts, strict=True)))


def _nested(forge: Forge) -> str:
    """A JWT in a JWT (RFC 7519, section 5.2): what is signed outside is not claims."""
    return forge.token(payload=forge.token())


def _encrypted_inside(forge: Forge) -> str:
    """Signed, then it turns out that nobody has validated what is inside (RFC 8725, sections 2.3 and 3.3)."""
    return forge.token(payload=_encrypted(forge, "dir", "A128CBC-HS256"))


def _detached(forge: Forge) -> str:
    """RFC 7515, appendix F: the payload would come from elsewhere."""
    header, _, signature = forge.parts()
    return f"{header}..{signature}"


def _starting(forge: Forge, first: str) -> str:
    """A good token whose signature begins with this character; one in 64 does."""
    while True:
        token = forge.token()
        if token.rpartition(".")[2].startswith(first):
            return token


M: Final = "token-malformed"

CASES: Final = (
    Case("nothing is wrong", Forge.token, None, span(1, 33, 262, 263, 357), ALGORITHMS),
    Case("signature changed", lambda forge: _changed(forge, 2), "token-signature", span(2, 19, 34)),
    Case("signature left empty", lambda forge: _parts(forge, "h.p."), "token-signature", span(3, 20, 35)),
    Case("signature and its dot left out", lambda forge: _parts(forge, "h.p"), M, span(4, 21, 36)),
    Case("payload changed", _other_payload, "token-signature", span(5, 22, 37)),
    Case("payload left empty", _detached, M, span(6, 23, 38)),
    Case("payload and its dot left out", lambda forge: _parts(forge, "h.s"), M, span(7, 24, 39)),
    Case("header changed", _other_header, "token-signature", span(8, 25, 40)),
    Case("header left empty", lambda forge: _parts(forge, ".p.s"), M, span(9, 26, 41)),
    Case("header and its dot left out", lambda forge: _parts(forge, "p.s"), M, span(10, 27, 42)),
    Case("header and signature left empty", lambda forge: _parts(forge, ".p."), M, span(11, 28, 43)),
    Case("payload alone", lambda forge: _parts(forge, "p"), M, span(12, 29, 44)),
    Case("nothing at all", lambda _forge: "", M, span(13, 30, 45)),
    Case("dots alone", lambda _forge: "..", M),
    Case("an empty fourth part", lambda forge: _parts(forge, "h.p.s."), M, span(14)),
    Case("a fourth part", lambda forge: _parts(forge, "h.p.s.p"), M, span(15)),
    Case("the signature twice", lambda forge: forge.token(sign=lambda data: forge.sign(data) * 2), "token-signature"),
    Case("header and payload exchanged", lambda forge: _parts(forge, "p.h.s"), M),
    Case("signature of another token", lambda forge: _parts(forge, "h.p.") + forge.parts()[2], "token-signature"),
    Case("two tokens after one another", lambda forge: f"{forge.token()}.{forge.token()}", M),
    Case("two tokens with a comma", lambda forge: f"{forge.token()},{forge.token()}", M),
    Case("empty payload, signed", lambda forge: forge.signed(f"{b64url(as_json(forge.header))}."), M, span(259)),
    Case("a payload of zero bytes, signed", lambda forge: forge.token(payload=bytes(20)), M, span(260)),
    Case("a payload of one byte, signed", lambda forge: forge.token(payload=b"a"), M, span(261)),
    Case(
        "a payload of plain text, signed",
        lambda forge: forge.token(payload=b"It is a dangerous business"),
        M,
        span(345, 348, 349, 352),
    ),
    Case("a signature that begins with zeros", lambda forge: _starting(forge, "A"), None, span(358), ("HS256", *ED)),
    Case("a signature that begins with ones", lambda forge: _starting(forge, "_"), None, span(359), ("HS256", *ED)),
    # other serialisations
    Case("general JSON serialisation", _general, M, span(17)),
    Case("flattened JSON serialisation", _flattened, M),
    Case("algorithm in the unprotected header", _unprotected_algorithm, M),
    Case("a JSON serialisation with an unsigned signature too", _two_signatures, M),
    Case("JWE, key wrapped", lambda forge: _encrypted(forge, "A256KW", "A256GCM"), M),
    Case("JWE, key used directly", lambda forge: _encrypted(forge, "dir", "A128CBC-HS256"), M),
    Case("JWE, JSON serialisation", _encrypted_flattened, M),
    Case("JWE in a signed token", _encrypted_inside, M),
    Case("a signed token in a signed token", _nested, M),
    # base64url
    Case("blanks before the signature", lambda forge: _inserted(forge, 2, "    "), M, span(360)),
    Case("a question mark before the signature", lambda forge: _inserted(forge, 2, "?"), M, span(361)),
    Case("a question mark after the signature", lambda forge: _inserted(forge, 2, "?", at=1), M, span(362)),
    Case(
        "question marks in place of the signature's start",
        lambda forge: f"{_parts(forge, 'h.p.')}????{forge.parts()[2][4:]}",
        M,
        span(363, 364),
    ),
    Case("blanks after the header", lambda forge: _inserted(forge, 0, "    ", at=1), M, span(365)),
    Case("number signs after the header", lambda forge: _inserted(forge, 0, "####", at=1), M, span(366)),
    Case("blanks before the payload", lambda forge: _inserted(forge, 1, "    "), M, span(368)),
    Case("number signs before the payload", lambda forge: _inserted(forge, 1, "####"), M, span(369)),
    Case("a question mark before the payload", lambda forge: _inserted(forge, 1, "?"), M, span(371)),
    Case(
        "a question mark in the header, not signed",
        lambda forge: _inserted(forge, 0, "?", at=1, signed=False),
        M,
        span(372),
    ),
    Case(
        "a question mark in the payload, not signed",
        lambda forge: _inserted(forge, 1, "?", at=1, signed=False),
        M,
        span(373),
    ),
    Case("padding after the header", lambda forge: _padding(forge, 0), M, span(367)),
    Case("padding after the payload", lambda forge: _padding(forge, 1), M, span(370)),
    Case("padding after the signature", lambda forge: _padding(forge, 2), M),
    Case("spare bits in the header", lambda forge: _spare_bits(forge, 0), M),
    Case("spare bits in the payload", lambda forge: _spare_bits(forge, 1), M, span(374, 375)),
    Case("spare bits in the signature", lambda forge: _spare_bits(forge, 2), M),
    Case("one character too many", lambda forge: _inserted(forge, 1, "A" * (5 - len(forge.parts()[1]) % 4), at=1), M),
    Case("the standard alphabet", _standard_alphabet, M),
    Case("a line break at the end", lambda forge: forge.token() + "\n", M),
    Case("a line break in the payload", lambda forge: _inserted(forge, 1, "\r\n", at=1), M),
    Case("a NUL at the end", lambda forge: forge.token() + "\0", M),
    Case("a byte order mark before it", lambda forge: "\ufeff" + forge.token(), M),
    Case("a letter of another script", lambda forge: forge.token().replace("e", "\u0435", 1), M),
    Case("in quotation marks", lambda forge: f'"{forge.token()}"', M),
    Case("with the scheme's name twice", lambda forge: f"Bearer {forge.token()}", M),
    Case("percent-encoded dots", lambda forge: forge.token().replace(".", "%2E"), M),
)
