"""Who somebody is: SPIFFE IDs and the certificates that carry them, revocation lists, and what /proc says."""

from __future__ import annotations

import base64
import datetime as dt
import os
import re
import ssl
import string
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from yarl import URL

from frost_sidecar import spiffe
from frost_sidecar.errors import ConfigError
from frost_sidecar.identity import Peer, load_lists
from frost_sidecar.peer import _start_time
from frost_sidecar.revocation import Revocations
from frost_sidecar.testing.authority import Authority
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_text
from tests.fuzz.test_fuzz_files import written

DOMAIN: Final = "mint.test"
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)


def _identity_seeds() -> list[bytes]:
    return [
        b"spiffe://mint.test/frost/signer-1",
        b"spiffe://mint.test",
        b"spiffe://a_b-c.9/X/.../..x/_-.",
        b"spiffe://" + b"d" * 255 + b"/x",
        b"spiffe://d/" + b"a" * 2037,
        b"spiffe://mint.test/../a/./b//c/?q#f%41:1@",
    ]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _is_identity(text: str) -> bool:
    """SPIFFE-ID, sections 2.1 to 2.3, in plain words."""
    letters = string.ascii_letters + string.digits + "._-"
    scheme, slashes, rest = text.partition("://")
    domain, *segments = rest.split("/")
    return (
        (scheme, slashes) == ("spiffe", "://")
        and len(text) <= 2048
        and 1 <= len(domain) <= 255
        and set(domain) <= set(string.ascii_lowercase + string.digits + "._-")
        and all(each and set(each) <= set(letters) and each not in {".", ".."} for each in segments)
    )


def _identity_read(data: bytes, value: tuple[str, str]) -> None:
    text = data.decode("ascii")
    assert _is_identity(text)
    assert f"spiffe://{value[0]}{value[1]}" == text
    split = urlsplit(text)
    assert (split.scheme, split.netloc, split.hostname, split.path) == ("spiffe", value[0], value[0], value[1])
    assert not split.query + split.fragment
    url = URL(text)
    assert (url.host, url.raw_path or "/", url.explicit_port) == (value[0], value[1] or "/", None)


def _identity_refused(data: bytes) -> None:
    assert not _is_identity(_text(data)), "refused, though it is one"


class _Files(NamedTuple):
    """An authority, a certificate of its that was revoked, and its lists: DER, by whether the certificate is there."""

    ca: Path
    revoked: x509.Certificate
    certificates: tuple[bytes, ...]
    lists: dict[bytes, bool]
    others: tuple[bytes, ...]
    """A delta list and one that has expired, of the authority, too; and one of an authority that is not known here."""


@cache
def _files() -> _Files:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        authority = Authority(Path(name), name="fuzzed authority")
        stranger = Authority(Path(name) / "other", name="another authority")
        issued = [
            authority.issue("workload", [f"spiffe://{DOMAIN}/frost/signer-1", "signer-1.test", "127.0.0.1"]),
            authority.issue("domain", [f"spiffe://{DOMAIN}"]),
            authority.issue("two", [f"spiffe://{DOMAIN}/a", f"spiffe://{DOMAIN}/b"]),
            authority.issue("below", [f"spiffe://{DOMAIN}/a"], authority=True),
            authority.issue("none", ["signer-1.test"]),
        ]
        certificates = [x509.load_pem_x509_certificate(each.cert.read_bytes()) for each in issued]
        week = dt.timedelta(days=7)  # longer than any run
        before = authority.revocations(start=-dt.timedelta(hours=1), lifetime=week)
        authority.revoke(issued[0])
        after, expired = authority.revocations(lifetime=week), authority.revocations(start=-2 * week, lifetime=week)
        delta = authority.revocations(
            start=-dt.timedelta(minutes=30), lifetime=week, extension=x509.DeltaCRLIndicator(1)
        )
        others = (delta, expired, stranger.revocations(lifetime=week))
        ca = written("ca.crt", authority.certificate.read_bytes())
    ders = tuple(each.public_bytes(Encoding.DER) for each in certificates)
    return _Files(
        ca,
        certificates[0],
        ders,
        {_der(before): False, _der(after): True},
        tuple(_der(each) for each in others),
    )


def _der(pem: str) -> bytes:
    found = _PEM.search(pem)
    assert found is not None
    return base64.b64decode(found[2])


def _certificate_seeds() -> list[bytes]:
    return list(_files().certificates)


def _member(data: bytes) -> str:
    """As the listener asks for each request, after OpenSSL has taken the certificate."""
    _openssl_names(data)
    certificate = Peer((), 0.0, data).certificate
    if certificate is None:
        raise ValueError("it cannot be read")
    return spiffe.member(certificate, DOMAIN)


def _openssl_names(data: bytes) -> list[tuple[str, str]]:
    """The subject alternative names, as OpenSSL reads them."""
    file = written("member.crt", ssl.DER_cert_to_PEM_cert(data).encode())
    try:
        return list(ssl._ssl._test_decode_cert(str(file)).get("subjectAltName", ()))  # type: ignore[attr-defined]
    except (ssl.SSLError, UnicodeDecodeError, SystemError):
        raise ValueError("OpenSSL refuses it") from None


def _is_member(data: bytes, identity: str) -> None:
    """OpenSSL reads the one URI, too, and no other."""
    assert [name for kind, name in _openssl_names(data) if kind == "URI"] == [identity]
    assert _is_identity(identity)
    assert urlsplit(identity).netloc == DOMAIN
    assert len(urlsplit(identity).path) > 1


def _list_seeds() -> list[bytes]:
    before, after = map(_pem, _files().lists)
    delta, expired, others = map(_pem, _files().others)
    return [after, before, before + after, after + b"text\n" + others, expired + after, others, delta, delta + after]


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"


def _damage_lists(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Lines; or the encoding below the base64 of one list."""
    data = random.choice(seeds)
    found = list(_PEM.finditer(data.decode("latin-1")))
    if not found or random.randrange(3) == 0:
        return damage_text(random, seeds)
    block = random.choice(found)
    try:
        damaged = _damage_der(random, [base64.b64decode(block[2].encode("latin-1"))])
    except ValueError:  # a seed that is damaged already
        return damage_text(random, seeds)
    return data[: block.start()] + _pem(damaged) + data[block.end() :].lstrip(b"\n")


def _damage_der(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Bytes; or an element (X.690) repeated, with the lengths around it put right, so that its reader gets to it."""
    data = bytearray(random.choice(seeds))
    if random.randrange(3) == 0:
        return damage_bytes(random, seeds)
    way = _way(random, data)
    if not way:
        return damage_bytes(random, seeds)
    at, head, length = way[-1]
    element = bytes(data[at : at + head + length])
    kind = random.randrange(4)
    if kind == 0:
        new = element * 2
    elif kind == 1:
        new = b""
    elif kind == 2:
        new = _element(
            random.choice((element[0], 0x02, 0x04, 0x05, 0x0C, 0x13, 0x16, 0x30, 0x82, 0x86)), element[head:]
        )
    else:
        new = _element(element[0], damage_bytes(random, [element[head:]]))
    return _replaced(bytes(data), way, new)


def _way(random: Random, data: bytes | bytearray) -> list[tuple[int, int, int]]:
    """Elements from the outermost to a random one inside: where each begins, how long its head and its content are."""
    way: list[tuple[int, int, int]] = []
    at, end = 0, len(data)
    while True:
        inside = []
        while at + 2 <= end:
            head, length = _head(data, at)
            if at + head + length > end:
                break
            inside.append((at, head, length))
            at += head + length
        if not inside or at != end:
            return way
        way.append(random.choice(inside))
        at, head, length = way[-1]
        tag = data[at]
        if (not tag & 0x20 and tag != 0x04) or random.randrange(8) == 0:
            return way
        at, end = at + head, at + head + length


def _head(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """How long the tag and length at a place are, and the content that they announce."""
    short = data[at + 1]
    if short < 128:
        return 2, short
    return 2 + (short & 127), int.from_bytes(data[at + 2 : at + 2 + (short & 127)])


def _element(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = (len(content).bit_length() + 7) // 8
    return bytes([tag, 128 | size]) + len(content).to_bytes(size) + content


def _replaced(data: bytes, way: Sequence[tuple[int, int, int]], new: bytes) -> bytes:
    """``data`` with another element at the end of the way."""
    at, head, length = way[-1]
    if len(way) == 1:
        return data[:at] + new + data[at + head + length :]
    outer, outer_head, outer_length = way[-2]
    content = data[outer + outer_head : at] + new + data[at + head + length : outer + outer_head + outer_length]
    return _replaced(data, way[:-1], _element(data[outer], content))


def _read_lists(data: bytes) -> Revocations:
    """As the listener does: here, and by OpenSSL for the handshake."""
    file = written("lists.crl", data)
    read = Revocations.read(file, _files().ca, "tls")
    load_lists(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), file, "tls")
    return read


def _lists_read(data: bytes, read: Revocations) -> None:
    """Of the authority only its own lists count, bit for bit, and the newest of them decides."""
    text = data.decode("latin-1")
    ders = [base64.b64decode(block[2].encode("latin-1")) for block in _PEM.finditer(text)]
    subject = _files().revoked.issuer
    lists = [(x509.load_der_x509_crl(der), der) for der in ders]
    newest = max(((each.last_update_utc, der) for each, der in lists if each.issuer == subject), default=None)
    assert newest is None or newest[1] in _files().lists, "a list that the authority did not sign"
    assert read.has(_files().revoked) is (newest is not None and _files().lists[newest[1]])
    assert read.expires > dt.datetime.now(dt.UTC).timestamp()


@cache
def _started() -> str:
    """When this process started, by its line in /proc, cut by hand behind its own, plain name."""
    line = Path("/proc/self/stat").read_text()
    name = Path("/proc/self/comm").read_text().strip()
    return line.partition(f"({name}) ")[2].split()[19]


def _named(data: bytes) -> str | None:
    """What is read of this process while it has a name of its own choice, as every process may."""
    expected, own = _started(), Path("/proc/self/comm").read_bytes().rstrip(b"\n")
    name = Path("/proc/self/comm")
    try:
        name.write_bytes(data[:15] or b"?")
        found = _start_time(os.getpid())
    finally:
        name.write_bytes(own)
    assert found == expected, "a process's name moves the fields behind it"
    return found


TARGETS: Final = [
    Target(
        "SPIFFE ID",
        _identity_seeds,
        lambda data: spiffe.parse(_text(data)),
        (ValueError,),
        _identity_read,
        _identity_refused,
        mutate=damage_bytes,
    ),
    Target("SPIFFE certificate", _certificate_seeds, _member, (ValueError,), _is_member, mutate=_damage_der),
    Target("revocation lists", _list_seeds, _read_lists, (ConfigError,), _lists_read, mutate=_damage_lists),
    Target(
        "process name in /proc",
        lambda: [b"python", b"a) R 1 2 3 4 5", b") ) ) ) ) ) ) )", b"(a) b\n) S 1 1"],
        _named,
        (),
        mutate=damage_bytes,
    ),
]


@pytest.mark.filterwarnings("ignore:Parsed a")  # of cryptography, for certificates that it will refuse one day
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
