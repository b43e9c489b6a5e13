"""Inputs that were findings once: each must be read, or refused, as its decoder promises."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import ssl
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from frost_ed25519 import keys
from frost_sidecar_auth_eddsa_jwks import parse_private
from frost_sidecar_auth_eddsa_jwks.fetching import parse_url

from frost_sidecar.addressing import parse_address
from frost_sidecar.config import Config
from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError, MalformedRequest
from frost_sidecar.idempotency.answer import decode_answer, encode_answer
from frost_sidecar.identity import Peer
from frost_sidecar.jws import parse_jws
from frost_sidecar.keygen.importer import import_group
from frost_sidecar.keygen.tool_files import read_tool_file
from frost_sidecar.model import Signed, TlsFiles
from frost_sidecar.process import ProcessConfig
from frost_sidecar.revocation import Revocations
from frost_sidecar.sealing import SealingKeys
from frost_sidecar.signer import NodeConfig
from frost_sidecar.testing.authority import Authority


@pytest.mark.parametrize("address", ["[]:7100", "[]:0"])
def test_brackets_around_nothing_are_no_host(address: str) -> None:
    """Refused with the configuration, and not when the socket is bound."""
    with pytest.raises(ConfigError):
        parse_address(address, path="server.metrics_bind")


@pytest.mark.parametrize("payload", [b"a.b", b'{"host":"x.test"}', b"e30"])
def test_an_unencoded_payload_has_its_own_reading_or_none(payload: bytes) -> None:
    """RFC 7797: PyJWT verifies it, the payload beside the token; a policy must not see nothing, nor another one."""
    key = Ed25519PrivateKey.generate()
    protected = b64url(json.dumps({"alg": "EdDSA", "b64": False, "crit": ["b64"]}).encode()).encode()
    message = protected + b"." + payload
    token = protected + b".." + b64url(key.sign(message)).encode()
    read = jwt.PyJWS().decode_complete(token, key.public_key(), algorithms=["EdDSA"], detached_payload=payload)
    assert read["payload"] == payload
    try:
        parsed = parse_jws(message)
    except MalformedRequest:
        return
    assert parsed is not None
    assert parsed.payload == payload


def test_a_stored_signature_has_one_spelling() -> None:
    """Two bits of the last letter of 32 bytes in base64 say nothing, and must be zero."""
    stored = encode_answer(Signed(bytes(64), bytes(32), (1, 2), "default", "r-1"))
    other: dict[str, Any] = msgspec.json.decode(stored)
    other["group_public"] = base64.b64encode(bytes(32)).decode()[:-2] + "B="
    with pytest.raises(ValueError, match=r".+"):
        decode_answer(json.dumps(other).encode())


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000], ids=["deep", "long"])
@pytest.mark.parametrize("kind", [Config, NodeConfig])
def test_toml_that_the_parser_gives_up_is_refused_with_its_path(
    kind: type[ProcessConfig], value: str, tmp_path: Path
) -> None:
    """As an error of configuration, and not with a thousand lines of traceback."""
    file = tmp_path / "frost.toml"
    file.write_text(f"state = {value}")
    with pytest.raises(ConfigError, match=r"frost\.toml"):
        kind.load(file, {})


@pytest.mark.parametrize("kind", [Config, NodeConfig])
def test_a_carriage_return_alone_ends_no_line_of_toml(kind: type[ProcessConfig], tmp_path: Path) -> None:
    """TOML 1.0: other readers refuse the file."""
    file = tmp_path / "frost.toml"
    file.write_bytes(b"dev = true\rstate = 'a'")
    with pytest.raises(ConfigError, match="not a TOML file"):
        kind.load(file, {})


def test_an_imported_share_names_the_key_of_its_group(tmp_path: Path) -> None:
    """A signer with another group key in its share computes another challenge, and looks like a liar."""
    shares, public = keys.generate_with_dealer(3, 2)
    stranger = keys.generate_with_dealer(3, 2)[1].verifying_key.serialize()
    package = keys.KeyPackage.from_secret_share(next(iter(shares.values()))).serialize()
    key = public.verifying_key.serialize()
    source = tmp_path / "credentials.toml"
    source.touch(0o600)
    source.write_text(
        f'[group.{key.hex()}]\nciphersuite = "FROST-ED25519-SHA512-v1"\n'
        f'key_package = "{package.replace(key, stranger).hex()}"\npublic_key_package = "{public.serialize().hex()}"\n'
    )
    with pytest.raises(ConfigError):
        import_group([source], tmp_path / "keys")


def test_a_share_in_the_place_of_the_ciphersuite_is_not_quoted(tmp_path: Path) -> None:
    """Lines that were exchanged in a file with shares end in an error, and errors end in logs."""
    share = secrets.token_hex(32)
    source = tmp_path / "credentials.toml"
    source.touch(0o600)
    source.write_text(f'[group.a]\nciphersuite = "{share}"\nkey_package = "FROST-ED25519-SHA512-v1"\n')
    with pytest.raises(ConfigError) as caught:
        read_tool_file(source)
    assert share[:10] not in str(caught.value)


@pytest.mark.parametrize("blank", [b"\xa0", b"\x85", b"\x1c"])
def test_a_sealing_key_has_nothing_behind_it(blank: bytes, tmp_path: Path) -> None:
    """Blanks of Latin-1 and of Unicode are none of a line: other readers of the file would not find the key."""
    file = tmp_path / "seal.key"
    file.touch(0o600)
    file.write_bytes(base64.b64encode(secrets.token_bytes(32)) + blank + b"\n")
    with pytest.raises(ConfigError, match="line 1"):
        SealingKeys.load(file)


@pytest.mark.parametrize("damage", ["version", "twice"])
def test_a_revocation_list_that_is_none_is_a_fault_of_the_file(damage: str, tmp_path: Path) -> None:
    """The library has errors of its own for these two, which are no ``ValueError``."""
    pem = Authority(tmp_path).revocations()
    der = bytearray(base64.b64decode("".join(pem.split("\n")[1:-2])))
    if damage == "version":
        der[der.index(b"\x02\x01\x01") + 2] = 9
    else:
        der = bytearray(_twice(bytes(der), b"\x06\x03\x55\x1d\x23"))
    file = tmp_path / "lists.crl"
    file.write_text(f"-----BEGIN X509 CRL-----\n{base64.encodebytes(der).decode()}-----END X509 CRL-----\n")
    with pytest.raises(ConfigError, match=r"tls\.crl: cannot use") as caught:
        Revocations.read(file, tmp_path / "ca.crt", "tls")
    assert caught.value.__cause__ is None


def _element(tag: int, content: bytes) -> bytes:
    size = (len(content).bit_length() + 7) // 8
    return (
        bytes([tag, *([len(content)] if len(content) < 128 else [128 | size, *len(content).to_bytes(size)])]) + content
    )


def _elements(content: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element (X.690) in a row."""
    found, at = [], 0
    while at < len(content):
        size = content[at + 1] & 127 if content[at + 1] > 127 else 0
        length = int.from_bytes(content[at + 2 : at + 2 + size]) if size else content[at + 1]
        begin = at + 2 + size
        found.append((content[at], content[begin : begin + length]))
        at = begin + length
    return found


def _twice(der: bytes, oid: bytes) -> bytes:
    """The same with an extension twice, the lengths around it put right."""
    [(tag, content)] = _elements(der)
    if not tag & 0x20:
        return der
    made = b""
    for inner, each in _elements(content):
        whole = _element(inner, each)
        made += whole * 2 if each.startswith(oid) else _twice(whole, oid)
    return _element(tag, made)


def _sign_anew(authority: Authority, files: TlsFiles, old: bytes, new: bytes) -> None:
    """Have the authority sign what its library would not: the certificate with other bytes in the place of some."""
    pem = files.cert.read_text()
    [(_, content)] = _elements(ssl.PEM_cert_to_DER_cert(pem))
    body, algorithm, _ = _elements(content)
    changed = _replaced(_element(*body), old, new)
    signature = authority._key.sign(changed, ec.ECDSA(hashes.SHA256()))
    der = _element(0x30, changed + _element(*algorithm) + _element(3, b"\0" + signature))
    files.cert.write_text(ssl.DER_cert_to_PEM_cert(der))


def _replaced(der: bytes, old: bytes, new: bytes) -> bytes:
    """Another element in the place of one, the lengths around it put right."""
    [(tag, content)] = _elements(der)
    if der == old:
        return new
    if not tag & 0x20:
        return der
    return _element(tag, b"".join(_replaced(_element(*each), old, new) for each in _elements(content)))


def _accepted(server: TlsFiles, client: TlsFiles) -> ssl.SSLObject:
    """The server's side of a real handshake, in memory; it has verified the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.cert, server.key)
    context.load_verify_locations(server.ca)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepted = context.wrap_bio(there, back, server_side=True)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.load_cert_chain(client.cert, client.key)
    asking.load_verify_locations(client.ca)
    connected = asking.wrap_bio(back, there, server_hostname="server")
    for _ in range(4):
        for each in (connected, accepted):
            with contextlib.suppress(ssl.SSLWantReadError):
                each.do_handshake()
    return accepted


_SUBJECT = _element(0x30, _element(6, b"\x55\x04\x03") + _element(0x0C, b"client"))


@pytest.fixture
def client_and_server(tmp_path: Path) -> tuple[Authority, TlsFiles, TlsFiles]:
    authority = Authority(tmp_path)
    return authority, authority.issue("client", ["client"]), authority.issue("server", ["server"])


def test_a_certificate_with_a_name_of_too_long_a_kind_names_nobody(
    client_and_server: tuple[Authority, TlsFiles, TlsFiles],
) -> None:
    """OpenSSL verifies it, and then the ``ssl`` module cannot say what is in it."""
    authority, client, server = client_and_server
    kind = _element(6, b"_U\x04\x03" * 166)
    _sign_anew(authority, client, _SUBJECT, _element(0x30, kind + _element(0x0C, b"client")))
    tls = _accepted(server, client)
    assert tls.getpeercert(True)
    with pytest.raises((ssl.SSLError, SystemError)):
        tls.getpeercert()
    assert Peer.of(tls) is None


def test_a_certificate_of_an_unknown_version_cannot_be_read(
    client_and_server: tuple[Authority, TlsFiles, TlsFiles],
) -> None:
    authority, client, server = client_and_server
    _sign_anew(authority, client, b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07")
    peer = Peer.of(_accepted(server, client))
    assert peer is not None
    assert peer.certificate is None


@pytest.mark.parametrize("spelled", ["jwk", "kelvin", "latin", "pem"])
def test_a_private_key_is_not_in_what_an_error_drags_along(spelled: str) -> None:
    """Crash reporters print an error's context, even where it is suppressed."""
    secret, label = secrets.token_hex(16), "PRIVATE KEY"
    data = {
        "jwk": f'{{"kty":"OKP","crv":"Ed25519","d":"{secret}'.encode(),
        "latin": f'{{"kty":"OKP","crv":"Ed25519","d":"{secret}\xff"}}'.encode("latin-1"),
        "kelvin": json.dumps({"kty": "OKP", "crv": "Ed25519", "d": f"{secret}\u212a"}, ensure_ascii=False).encode(),
        "pem": f"-----BEGIN {label}-----{secret}\n\n-----END {label}-----".encode(),
    }[spelled]
    with pytest.raises(ConfigError) as caught:
        parse_private(data, "EdDSA", "key_file")
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in f"{error!r} {vars(error)} {getattr(error, 'object', '')} {getattr(error, 'doc', '')}"
        error = error.__context__


@pytest.mark.parametrize("address", ["https://[:]/jwks", "https://[::1]:+4/jwks", "https://[]@", "//[]@"])
def test_an_address_that_only_one_reader_takes_is_no_url(address: str) -> None:
    with pytest.raises(ConfigError, match="no URL"):
        parse_url(address, "jwks_url")
