"""Every way that a token, a certificate or a message can be wrong, against real listeners, and the good one beside it.

The peers of the Unix socket have tables of their own in test_peer and test_sidecar; the page that lists all reasons is
held here.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import re
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import aiohttp
import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from frost_sidecar.encoding import b64encode, b64url
from frost_sidecar.errors import Refusal
from frost_sidecar.jose import okp_jwk, thumbprint
from frost_sidecar.keygen.dealer import deal
from frost_sidecar.model import TlsFiles
from frost_sidecar.signer import NodeConfig, serve
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.sidecar import CLIENT_NAME, MemorySidecar
from frost_sidecar.wire import COMMITMENTS_PATH, INFO_PATH, body_digest

PAGE = (Path(__file__).parents[1] / "docs" / "refusals.md").read_text("utf-8")
Header = dict[str, object]
Claims = dict[str, object]


# --- tokens, made by hand so that each can be wrong in one way ------------------------------------------------------


class Keys:
    """What tokens are signed with: a shared secret and an Ed25519 key, and one of each that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        self.secret = secrets.token_bytes(32)
        self.private = Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        folder.mkdir(parents=True, exist_ok=True)
        secret_file, jwks_file = folder / "secret", folder / "jwks.json"
        secret_file.touch(0o600)
        secret_file.write_text(base64.b64encode(self.secret).decode())
        jwks_file.write_text(json.dumps({"keys": [okp_jwk(self.public)]}))
        self.plugins = {
            "auth_hs256": {"secret_file": str(secret_file)},
            "auth_eddsa_jwks": {"jwks_file": str(jwks_file)},
        }

    def header(self, alg: str) -> Header:
        header: Header = {"alg": alg, "typ": "JWT"}
        if alg == "EdDSA":
            header["kid"] = thumbprint(self.public)
        return header

    def signature(self, alg: str, signing_input: bytes) -> bytes:
        if alg == "HS256":
            return hmac.digest(self.secret, signing_input, hashlib.sha256)
        return self.private.sign(signing_input)


@dataclass
class Draft:
    """A token that is good until a fault touches it."""

    keys: Keys
    alg: str
    claims: Claims
    header: Header = field(init=False)
    forged: Callable[[bytes], bytes] | None = None
    """Makes another signature."""
    text: str | None = None
    """Stands for the whole token."""

    def __post_init__(self) -> None:
        self.header = self.keys.header(self.alg)

    def compact(self) -> str:
        if self.text is not None:
            return self.text
        signing_input = ".".join(b64url(json.dumps(each).encode()) for each in (self.header, self.claims)).encode()
        sign = self.forged or (lambda message: self.keys.signature(self.alg, message))
        return f"{signing_input.decode()}.{b64url(sign(signing_input))}"


Fault = Callable[[Draft], None]


def claim(name: str, value: object) -> Fault:
    return lambda draft: draft.claims.update({name: value})


def moved(name: str, seconds: int) -> Fault:
    return lambda draft: draft.claims.update({name: int(time.time()) + seconds})


def without(name: str) -> Fault:
    def fault(draft: Draft) -> None:
        del draft.claims[name]

    return fault


def member(name: str, value: object) -> Fault:
    return lambda draft: draft.header.update({name: value})


def forged(sign: Callable[[Draft, bytes], bytes]) -> Fault:
    def fault(draft: Draft) -> None:
        draft.forged = lambda message: sign(draft, message)

    return fault


def text(make: Callable[[str], str]) -> Fault:
    def fault(draft: Draft) -> None:
        draft.text = make(draft.compact())

    return fault


def foreign(draft: Draft, message: bytes) -> bytes:
    if draft.alg == "HS256":
        return hmac.digest(secrets.token_bytes(32), message, hashlib.sha256)
    return Ed25519PrivateKey.generate().sign(message)


def as_hmac_key(draft: Draft) -> None:
    """HS256 with the public key as its secret (RFC 8725, section 2.1)."""
    draft.header = {"alg": "HS256", "typ": "JWT"}
    draft.forged = lambda message: hmac.digest(draft.keys.public, message, hashlib.sha256)


def duplicated(draft: Draft) -> None:
    payload = json.dumps(draft.claims)
    parts = json.dumps(draft.header), payload[:-1] + ', "sub": "admin"}'
    signing_input = ".".join(b64url(each.encode()) for each in parts).encode()
    draft.text = f"{signing_input.decode()}.{b64url(draft.keys.signature(draft.alg, signing_input))}"


def unsigned(spelling: str) -> Fault:
    def fault(draft: Draft) -> None:
        draft.header["alg"] = spelling
        draft.text = ".".join(b64url(json.dumps(each).encode()) for each in (draft.header, draft.claims)) + "."

    return fault


MALFORMED: dict[str, Fault] = {
    "two parts": text(lambda good: good.rpartition(".")[0]),
    "four parts": text(lambda good: f"{good}.AAAA"),
    "an empty header": text(lambda good: "." + good.partition(".")[2]),
    "a header that is no JSON": text(lambda good: "AAAA." + good.partition(".")[2]),
    "padding": text(lambda good: f"{good}=="),
    "standard base64": text(lambda good: good[:-3] + "+/+"),
    "a claim twice": duplicated,
}
COMMON: dict[str, tuple[Refusal, Fault]] = {
    **{name: ("token-malformed", fault) for name, fault in MALFORMED.items()},
    "another key's signature": ("token-signature", forged(foreign)),
    "an empty signature's bytes": ("token-signature", forged(lambda _draft, _message: bytes(64))),
    "a cut signature": ("token-signature", forged(lambda d, m: d.keys.signature(d.alg, m)[:-1])),
    "changed claims": ("token-signature", forged(lambda d, m: d.keys.signature(d.alg, m + b"x"))),
    "crit": ("token-header", member("crit", ["exp"])),
    "b64": ("token-header", member("b64", False)),
    "jwk": ("token-header", member("jwk", {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})),
    "jku": ("token-header", member("jku", "https://evil.test/jwks.json")),
    "x5u": ("token-header", member("x5u", "https://evil.test/chain.pem")),
    "x5c": ("token-header", member("x5c", ["AAAA"])),
    "expired": ("token-expired", moved("exp", -60)),
    "nbf in the future": ("token-not-yet-valid", moved("nbf", 120)),
    "iat in the future": ("token-not-yet-valid", moved("iat", 120)),
    "no exp": ("token-claims", without("exp")),
    "exp as text": ("token-claims", claim("exp", "4102444800")),
    "exp true": ("token-claims", claim("exp", True)),
    "sub as a number": ("token-subject", claim("sub", 7)),
    "an empty sub": ("token-subject", claim("sub", "")),
    "another aud": ("token-audience", claim("aud", "somebody")),
    "another iss": ("token-issuer", claim("iss", "somebody")),
}
"""Wrong for whoever checks it."""
ONLY_EDDSA: dict[str, tuple[Refusal, Fault]] = {
    "alg none": ("token-algorithm", unsigned("none")),
    "alg None": ("token-algorithm", unsigned("None")),
    "alg nOnE": ("token-algorithm", unsigned("nOnE")),
    "alg RS256 with an Ed25519 key": ("token-algorithm", member("alg", "RS256")),
    "alg ES256": ("token-algorithm", member("alg", "ES256")),
    "alg eddsa": ("token-algorithm", member("alg", "eddsa")),
    "an unknown kid": ("token-key", member("kid", "unknown")),
    "a kid that is a number": ("token-key", member("kid", 1)),
    "HS256 with the public key as secret": ("token-signature", as_hmac_key),
}
FOR_THE_COORDINATOR: dict[str, tuple[Refusal, Fault]] = {
    "one for a signer": ("token-audience", claim("body_sha256", "AAAA")),
    "an unprintable sub": ("token-subject", claim("sub", "mint\u200b")),
    "a long sub": ("token-subject", claim("sub", "m" * 257)),
    "a list of others as aud": ("token-audience", claim("aud", ["a", "b"])),
}
FOR_A_SIGNER: dict[str, tuple[Refusal, Fault]] = {
    "another body": ("token-body", claim("body_sha256", body_digest(b"other"))),
    "no body digest": ("token-claims", without("body_sha256")),
    "no jti": ("token-claims", without("jti")),
    "an empty jti": ("token-claims", claim("jti", "")),
    "a long jti": ("token-claims", claim("jti", "j" * 257)),
    "a list as aud": ("token-claims", claim("aud", ["signer-1"])),
    "a minute and more": ("token-lifetime", moved("exp", 90)),
    "an unprintable sub": ("token-subject", claim("sub", "c\u200b")),
    "a sub that may not call": ("token-subject", claim("sub", "mallory")),
}


def faults(alg: str, own: Mapping[str, tuple[Refusal, Fault]]) -> dict[str, tuple[Refusal, Fault]]:
    return {**COMMON, **(ONLY_EDDSA if alg == "EdDSA" else {}), **own}


# --- the coordinator on TCP -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What came of one wrong request."""

    status: int | None
    """None where there was no answer."""
    reason: str | None
    counted: float
    audited: str | None


class Coordinator:
    """A sidecar on TCP, with both kinds of tokens."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.keys = Keys(folder / "tokens")
        self.sidecar = MemorySidecar(
            folder,
            tcp=True,
            plugins_settings=self.keys.plugins,
            token={"plugin": "memory"},
            server={"token": {"issuers": ["idp"]}, **settings.pop("server", {})},
            **settings,
        )

    def draft(self, alg: str = "EdDSA") -> Draft:
        now = int(time.time())
        claims: Claims = {"iss": "idp", "sub": "mint", "aud": "frost-coordinator", "iat": now, "exp": now + 30}
        return Draft(self.keys, alg, claims)

    async def ask(
        self,
        unix: aiohttp.ClientSession,
        *,
        reason: str,
        token: str | None = None,
        tls: TlsFiles | None = None,
        message: bytes = b"hello",
        headers: Mapping[str, str] | None = None,
    ) -> Seen:
        """Ask for a signature, and look at answer, metric and audit; ``reason``: the one whose count is looked at."""
        before, records = await self._count(unix, reason), len(self.sidecar.cluster.records)
        given = {"Authorization": f"Bearer {token}"} if token is not None else {}
        status, answer = None, {}
        async with self.sidecar.calling(tls, anonymous=True) as http:
            try:
                body = {"msg_b64": b64encode(message)}
                async with http.post("/sign", json=body, headers={**given, **(headers or {})}) as response:
                    status, answer = response.status, await response.json(content_type=None)
            except (aiohttp.ClientError, ConnectionError, ssl.SSLError):
                await anyio.sleep(0.05)  # the server may hear of the broken handshake a moment later
        new = self.sidecar.cluster.records[records:]
        counted = await self._count(unix, reason) - before
        return Seen(status, answer.get("reason"), counted, new[0].refusal if new else None)

    async def _count(self, unix: aiohttp.ClientSession, reason: str) -> float:
        return await counted(unix, "http://sidecar/metrics", "coordinator", reason)


async def counted(http: aiohttp.ClientSession, url: str, process: str, reason: str) -> float:
    async with http.get(url) as response:
        text = await response.text()
    found = re.search(rf'^frost_{process}_refusals_total{{reason="{reason}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


@pytest.mark.parametrize("alg", ["HS256", "EdDSA"])
async def test_tokens_of_callers(alg: str, tmp_path: Path) -> None:
    rows = faults(alg, FOR_THE_COORDINATOR)
    coordinator = Coordinator(tmp_path)
    seen: dict[str, Seen] = {}
    async with coordinator.sidecar.serving() as unix:
        for name, (reason, fault) in rows.items():
            draft = coordinator.draft(alg)
            fault(draft)
            seen[name] = await coordinator.ask(unix, reason=reason, token=draft.compact())
            good = await coordinator.ask(unix, reason=reason, token=coordinator.draft(alg).compact())
            assert good == Seen(200, None, 0, None), name
        seen["no token"] = await coordinator.ask(unix, reason="token-missing")
        seen["another scheme"] = await coordinator.ask(
            unix, reason="token-missing", headers={"Authorization": "Basic AAAA"}
        )
    expected = {name: Seen(401, reason, 1, None) for name, (reason, _) in rows.items()}
    expected |= dict.fromkeys(("no token", "another scheme"), Seen(401, "token-missing", 1, None))
    assert seen == expected


# --- messages: grants and policies ----------------------------------------------------------------------------------

POLICY = {
    "typ": ["at+jwt"],
    "iss": ["https://mint.test"],
    "aud": ["https://api.test"],
    "sub": ["user:*"],
    "max_lifetime_seconds": 600,
    "required": ["jti"],
    "forbidden": ["act"],
}
MESSAGES: dict[str, tuple[Refusal, Callable[[Header, Claims], object]]] = {
    "alg none": ("jws-algorithm", lambda header, _: header.update(alg="none")),
    "alg HS256": ("jws-algorithm", lambda header, _: header.update(alg="HS256")),
    "no alg": ("jws-algorithm", lambda header, _: header.pop("alg")),
    "another kid": ("jws-key", lambda header, _: header.update(kid="other")),
    "no kid": ("jws-key", lambda header, _: header.pop("kid")),
    "another typ": ("jws-type", lambda header, _: header.update(typ="JWT")),
    "no typ": ("jws-type", lambda header, _: header.pop("typ")),
    "crit": ("jws-critical", lambda header, _: header.update(crit=["x"], x=1)),
    "jku": ("jws-header", lambda header, _: header.update(jku="https://evil.test")),
    "jwk": ("jws-header", lambda header, _: header.update(jwk={})),
    "another iss": ("jws-issuer", lambda _, claims: claims.update(iss="https://evil.test")),
    "no iss": ("jws-issuer", lambda _, claims: claims.pop("iss")),
    "another aud": ("jws-audience", lambda _, claims: claims.update(aud="https://evil.test")),
    "one aud too many": ("jws-audience", lambda _, claims: claims.update(aud=["https://api.test", "x"])),
    "another sub": ("jws-subject", lambda _, claims: claims.update(sub="admin")),
    "too long": ("jws-lifetime", lambda _, claims: claims.update(exp=int(time.time()) + 3600)),
    "no exp": ("jws-lifetime", lambda _, claims: claims.pop("exp")),
    "no jti": ("jws-claims", lambda _, claims: claims.pop("jti")),
    "a forbidden claim": ("jws-claims", lambda _, claims: claims.update(act={"sub": "x"})),
}


async def test_messages(tmp_path: Path) -> None:
    subjects = ("mint", "tool", "nothing")
    coordinator = Coordinator(
        tmp_path,
        callers={name: {"tcp": {"subject": name}} for name in subjects},
        grants=[{"caller": "mint", "policy": "access"}, {"caller": "tool", "opaque": True}],
        policies={"access": POLICY},
    )
    kid = thumbprint(coordinator.sidecar.cluster.group_public)

    def message(change: Callable[[Header, Claims], object] = lambda _header, _claims: None) -> bytes:
        now = int(time.time())
        header: Header = {"alg": "EdDSA", "typ": "at+jwt", "kid": kid}
        claims: Claims = {
            "iss": "https://mint.test",
            "aud": "https://api.test",
            "sub": "user:alice",
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(8),
        }
        change(header, claims)
        return ".".join(b64url(json.dumps(each).encode()) for each in (header, claims)).encode()

    async with coordinator.sidecar.serving() as unix:

        async def ask(subject: str, reason: str, content: bytes) -> Seen:
            draft = coordinator.draft()
            draft.claims["sub"] = subject
            return await coordinator.ask(unix, reason=reason, token=draft.compact(), message=content)

        seen = {name: await ask("mint", reason, message(change)) for name, (reason, change) in MESSAGES.items()}
        seen["no JWS"] = await ask("mint", "not-a-jws", b"opaque")
        seen["no grant"] = await ask("nothing", "grant-missing", message())
        seen["no caller"] = await ask("stranger", "caller-unknown", message())
        assert await ask("mint", "policy", message()) == Seen(200, None, 0, None)
        assert await ask("tool", "policy", b"opaque") == Seen(200, None, 0, None)
    expected = {name: Seen(403, reason, 1, reason) for name, (reason, _) in MESSAGES.items()}
    for name, reason in (("no JWS", "not-a-jws"), ("no grant", "grant-missing"), ("no caller", "caller-unknown")):
        expected[name] = Seen(403, reason, 1, reason)
    assert seen == expected


# --- a signer -------------------------------------------------------------------------------------------------------


class Signer:
    """A signer node behind its real listener, with both kinds of tokens."""

    def __init__(self, folder: Path, *, names: tuple[str, ...] = ("DNS:coordinator.test",), **tls: str) -> None:
        self.keys = Keys(folder / "tokens")
        self.authority = Authority(folder / "tls")
        self.client = self.authority.issue("client", ["coordinator.test"])
        own = self.authority.issue("signer", ["localhost"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        share = deal(folder / "keys", min_signers=2, max_signers=2).share_files[1]
        self.config = NodeConfig.build(
            {
                "name": "signer-1",
                "bind": "127.0.0.1:0",
                "metrics_bind": f"127.0.0.1:{port}",
                "state": str(share.parent),
                "keys": {"default": {"share": share.name}},
                "tls": {"cert": str(own.cert), "key": str(own.key), "ca": str(own.ca), **tls},
                "clients": {"names": list(names)},
                "token": {"subjects": ["frost-coordinator"]},
                "plugins": self.keys.plugins,
            }
        )
        self.url = ""
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        ready = anyio.Event()

        def listening(address: tuple[str, int]) -> None:
            self.url = f"https://localhost:{address[1]}"
            ready.set()

        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await serve(self.config, ready=listening)

            tasks.start_soon(run)
            with anyio.fail_after(10):
                await ready.wait()
            yield
            tasks.cancel_scope.cancel()

    def draft(self, alg: str = "EdDSA") -> Draft:
        now = int(time.time())
        claims: Claims = {
            "iss": "frost-coord",
            "sub": "frost-coordinator",
            "aud": "signer-1",
            "iat": now,
            "nbf": now,
            "exp": now + 30,
            "jti": secrets.token_hex(16),
            "body_sha256": body_digest(b""),
        }
        return Draft(self.keys, alg, claims)

    async def ask(self, *, reason: str, token: str | None) -> Seen:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.client.cert, self.client.key)
        async with (
            aiohttp.ClientSession() as other,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http,
        ):
            before = await counted(other, self.metrics_url, "signer", reason)
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with http.get(f"{self.url}{INFO_PATH}", headers=headers) as response:
                status, answer = response.status, await response.json(content_type=None)
            after = await counted(other, self.metrics_url, "signer", reason)
        return Seen(status, answer.get("reason"), after - before, None)


@pytest.mark.parametrize("alg", ["HS256", "EdDSA"])
async def test_tokens_of_coordinators(alg: str, tmp_path: Path) -> None:
    rows = faults(alg, FOR_A_SIGNER)
    signer = Signer(tmp_path)
    seen: dict[str, Seen] = {}
    async with signer.serving():
        for name, (reason, fault) in rows.items():
            draft = signer.draft(alg)
            fault(draft)
            seen[name] = await signer.ask(reason=reason, token=draft.compact())
            good = await signer.ask(reason=reason, token=signer.draft(alg).compact())
            assert good == Seen(200, None, 0, None), name
        token = signer.draft(alg).compact()
        assert (await signer.ask(reason="token-replayed", token=token)).status == 200
        seen["used before"] = await signer.ask(reason="token-replayed", token=token)
        seen["no token"] = await signer.ask(reason="token-missing", token=None)
    expected = {name: Seen(401, reason, 1, None) for name, (reason, _) in rows.items()}
    expected["used before"] = Seen(401, "token-replayed", 1, None)
    expected["no token"] = Seen(401, "token-missing", 1, None)
    assert seen == expected


# --- certificates, of callers at the coordinator and of coordinators at a signer ------------------------------------

DOMAIN = "mint.test"
ID = f"spiffe://{DOMAIN}/caller"


def of(*names: str, **more: Any) -> Callable[[Authority, str], TlsFiles]:
    """A certificate with these names, ``NAME`` being the one that may call."""
    return lambda authority, name: authority.issue(
        secrets.token_hex(8), [each.replace("NAME", name) for each in names], **more
    )


def foreign_authority(authority: Authority, name: str) -> TlsFiles:
    files = Authority(authority.folder / secrets.token_hex(8)).issue("client", [name, ID])
    return TlsFiles(files.cert, files.key, authority.certificate)


def common_name_alone(authority: Authority, name: str) -> TlsFiles:
    return authority.issue(name, [ID])


CERTIFICATES: dict[str, tuple[Refusal, int | None, Callable[[Authority, str], TlsFiles | None]]] = {
    "none at all": ("certificate-missing", None, lambda _authority, _name: None),
    "another authority": ("certificate-untrusted", None, foreign_authority),
    "expired": ("certificate-expired", None, of("NAME", ID, lifetime=dt.timedelta(seconds=1))),
    "another name": ("certificate-name", 403, of("other.test", ID)),
    "a name below": ("certificate-name", 403, of("x.NAME", ID)),
    "a wildcard": ("certificate-name", 403, of("*.test", ID)),
    "the common name alone": ("certificate-name", 403, common_name_alone),
    "an address": ("certificate-name", 403, of("127.0.0.1", ID)),
    "a blank behind the name": ("certificate-name", 403, of("NAME ", ID)),
    "no SPIFFE ID": ("certificate-trust-domain", 403, of("NAME")),
    "another trust domain": ("certificate-trust-domain", 403, of("NAME", "spiffe://evil.test/caller")),
    "a domain that only begins alike": ("certificate-trust-domain", 403, of("NAME", f"spiffe://{DOMAIN}.evil/caller")),
    "two SPIFFE IDs": ("certificate-trust-domain", 403, of("NAME", ID, f"{ID}-2")),
    "another scheme": ("certificate-trust-domain", 403, of("NAME", f"https://{DOMAIN}/caller")),
    "a domain without a path": ("certificate-trust-domain", 403, of("NAME", f"spiffe://{DOMAIN}")),
    "a path that climbs": ("certificate-trust-domain", 403, of("NAME", f"spiffe://{DOMAIN}/a/../caller")),
    "an authority's own": ("certificate-untrusted", None, of("NAME", ID, authority=True)),
}


async def refused_handshake(url: str, authority: Authority, files: TlsFiles | None, path: str) -> Seen:
    """A call with any certificate, or none, and no token: what came of it, uncounted."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as http:
        try:
            async with http.post(f"{url}{path}", json={"msg_b64": "aGVsbG8="}) as response:
                return Seen(response.status, (await response.json(content_type=None)).get("reason"), 0, None)
        except (aiohttp.ClientError, ConnectionError, ssl.SSLError):
            await anyio.sleep(0.05)  # the server may hear of the broken handshake a moment later
            return Seen(None, None, 0, None)


class Rows:
    """All rows against one listener: what was seen, and what is wanted. Makes the list of revoked certificates."""

    def __init__(self, authority: Authority, name: str, crl: Path) -> None:
        self.seen: dict[str, Seen] = {}
        self.expected: dict[str, Seen] = {}
        self._authority = authority
        self._name = name
        self._expired = CERTIFICATES["expired"][2](authority, name)
        self._expires = time.monotonic() + 1
        self._revoked = authority.issue("revoked", [name, ID])
        authority.revoke(self._revoked)
        crl.write_text(authority.revocations())

    async def judge(self, url: str, path: str, count: Callable[[str], Awaitable[float]]) -> None:
        for what, (reason, status, make) in CERTIFICATES.items():
            files = self._expired if what == "expired" else make(self._authority, self._name)
            if what == "expired":
                await anyio.sleep(max(0, self._expires + 0.5 - time.monotonic()))
            await self._row(what, reason, status, files, url, path, count)
        await self._row("revoked", "certificate-revoked", None, self._revoked, url, path, count)

    async def _row(
        self,
        what: str,
        reason: str,
        status: int | None,
        files: TlsFiles | None,
        url: str,
        path: str,
        count: Callable[[str], Awaitable[float]],
    ) -> None:
        before = await count(reason)
        found = await refused_handshake(url, self._authority, files, path)
        now = await count(reason)
        for _ in range(40):  # the end of a handshake may be counted after the client saw it
            if now > before:
                break
            await anyio.sleep(0.05)
            now = await count(reason)
        self.seen[what] = Seen(found.status, found.reason, now - before, None)
        self.expected[what] = Seen(status, reason if status else None, 1, None)


async def test_certificates_of_callers(tmp_path: Path) -> None:
    crl, tls = tmp_path / "crl.pem", tmp_path / "tls"
    files = {"cert": str(tls / "listener.crt"), "key": str(tls / "listener.key"), "ca": str(tls / "ca.crt")}
    coordinator = Coordinator(tmp_path, server={"tls": {**files, "crl": str(crl), "trust_domain": DOMAIN}})
    sidecar = coordinator.sidecar
    rows = Rows(sidecar.authority, CLIENT_NAME, crl)
    good = sidecar.authority.issue("good", [CLIENT_NAME, ID])
    async with sidecar.serving() as unix:

        async def count(reason: str) -> float:
            return await counted(unix, "http://sidecar/metrics", "coordinator", reason)

        await rows.judge(sidecar.url, "/sign", count)
        fine = await coordinator.ask(unix, reason="certificate-name", token=coordinator.draft().compact(), tls=good)
    assert fine == Seen(200, None, 0, None)
    assert rows.seen == rows.expected
    assert len(sidecar.cluster.records) == 1


async def test_certificates_of_coordinators(tmp_path: Path) -> None:
    crl = tmp_path / "crl.pem"
    signer = Signer(tmp_path, crl=str(crl), trust_domain=DOMAIN)
    rows = Rows(signer.authority, "coordinator.test", crl)
    signer.client = signer.authority.issue("good", ["coordinator.test", ID])
    async with signer.serving(), aiohttp.ClientSession() as http:

        async def count(reason: str) -> float:
            return await counted(http, signer.metrics_url, "signer", reason)

        await rows.judge(signer.url, COMMITMENTS_PATH, count)
        fine = await signer.ask(reason="certificate-name", token=signer.draft().compact())
    assert fine == Seen(200, None, 0, None)
    assert rows.seen == rows.expected


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_has_every_reason() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| (yes|no) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert sorted(reason for reason, *_ in rows) == sorted(get_args(Refusal))


def test_the_tables_have_enough_rows() -> None:
    callers = len(faults("HS256", FOR_THE_COORDINATOR)) + len(faults("EdDSA", FOR_THE_COORDINATOR)) + 4
    coordinators = len(faults("HS256", FOR_A_SIGNER)) + len(faults("EdDSA", FOR_A_SIGNER)) + 4
    assert callers + coordinators + len(MESSAGES) + 3 + 2 * (len(CERTIFICATES) + 1) >= 200
