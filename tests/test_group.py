"""``group.json``: read in all forms, from real files of all crate versions; written so that the original reads it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import frost_ed25519 as frost
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen.content import MAX_BYTES
from frost_sidecar.keygen.dealer import deal
from frost_sidecar.keygen.group import Group

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = (1, 2, 3)
GROUPS = {"2-of-2": (2, 2), "2-of-3": (2, 3), "3-of-5": (3, 5), "5-of-5": (5, 5), "7-of-10": (7, 10)}

FIELD_ORDER = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
BASE_POINT = bytes.fromhex("58" + "66" * 31)


def _number(value: int) -> bytes:
    return value.to_bytes(32, "little")


def _program(version: int) -> Path:
    """The original's lines of Rust, built with that major version of the crate."""
    path = FIXTURES / "rust" / "target" / "debug" / f"group-file-{version}"
    assert path.exists(), f"{path} is not built: run make test, or see {FIXTURES / 'README.md'}"
    return path


def _original_reads(version: int, path: Path) -> str:
    command = [str(_program(version)), "read", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Files of others


@pytest.mark.parametrize("form", ["group", "crate"])
@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_every_version_of_the_crate(version: int, name: str, form: str) -> None:
    least, most = GROUPS[name]
    group = Group.load("mint", FIXTURES / "groups" / f"crate-{version}" / f"{name}.{form}.json")
    assert (group.min_signers, group.identifiers) == (least, frozenset(range(1, most + 1)))
    assert group.package.min_signers == least
    said = json.loads((FIXTURES / "groups" / f"crate-{version}" / f"{name}.crate.json").read_text())
    assert group.public.hex() == said["verifying_key"]
    assert {who.serialize().hex(): each.serialize().hex() for who, each in group.package.verifying_shares.items()} == (
        said["verifying_shares"]
    )


@pytest.mark.parametrize("form", ["group", "crate"])
@pytest.mark.parametrize("version", VERSIONS)
def test_identifiers_need_not_be_in_a_row(version: int, form: str) -> None:
    group = Group.load("mint", FIXTURES / "groups" / f"crate-{version}" / f"2-of-3-gaps.{form}.json")
    assert (group.min_signers, group.identifiers) == (2, frozenset({5, 40, 300}))


@pytest.mark.parametrize("form", ["group", "crate"])
@pytest.mark.parametrize("version", VERSIONS)
def test_identifiers_must_be_numbers(version: int, form: str) -> None:
    path = FIXTURES / "groups" / f"crate-{version}" / f"2-of-2-names.{form}.json"
    with pytest.raises(ConfigError) as caught:
        Group.load("mint", path)
    place = "public_key_package: " if form == "group" else ""
    assert str(caught.value) == (
        f"keys.mint: {path}: {place}verifying_shares, identifier 1 of 2: "
        "not a number from 1 to 65535; other identifiers cannot be used here"
    )


@pytest.mark.parametrize("suite", ["ristretto255", "secp256k1"])
def test_other_ciphersuites(suite: str) -> None:
    path = FIXTURES / "groups" / "others" / f"{suite}.group.json"
    with pytest.raises(ConfigError) as caught:
        Group.load("mint", path)
    assert str(caught.value) == (
        f"keys.mint: {path}: public_key_package: header.ciphersuite: another ciphersuite than FROST(Ed25519, SHA-512)"
    )
    path = FIXTURES / "groups" / "others" / f"{suite}.crate.json"
    with pytest.raises(ConfigError) as caught:
        Group.load("mint", path)
    name = json.loads(path.read_text())["header"]["ciphersuite"]
    assert str(caught.value) == f"keys.mint: {path}: header.ciphersuite: {name!r} is not FROST-ED25519-SHA512-v1"


# Files of ours


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("least", "most"), [(2, 2), (2, 3), (3, 5), (20, 40)])
def test_the_original_reads_what_the_dealer_writes(tmp_path: Path, version: int, least: int, most: int) -> None:
    dealt = deal(tmp_path, min_signers=least, max_signers=most)
    assert list(json.loads(dealt.group_file.read_text())) == ["public_key_package"]
    assert _original_reads(version, dealt.group_file) == dealt.group_public.hex()
    group = Group.load("mint", dealt.group_file)
    assert (group.public, group.min_signers, len(group.identifiers)) == (dealt.group_public, least, most)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_original_reads_the_fixtures(version: int) -> None:
    """Else the program would prove nothing."""
    for writer in VERSIONS:
        path = FIXTURES / "groups" / f"crate-{writer}" / "3-of-5.group.json"
        assert _original_reads(version, path) == Group.load("mint", path).public.hex()
    command = [str(_program(version)), "read", str(FIXTURES / "groups" / "others" / "ristretto255.group.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "ciphersuite" in done.stderr


def test_what_earlier_dealers_wrote(tmp_path: Path) -> None:
    _, package = frost.keys.generate_with_dealer(3, 2)
    path = tmp_path / "group.json"
    path.write_text(package.to_json())
    assert Group.load("mint", path).package == package


def test_other_members_beside_the_bytes_are_left_alone(tmp_path: Path) -> None:
    """The original ignores them."""
    _, package = frost.keys.generate_with_dealer(3, 2)
    path = tmp_path / "group.json"
    path.write_text(json.dumps({"note": {"made": [1.5, None]}, "public_key_package": list(package.to_bincode())}))
    assert Group.load("mint", path).package == package


# The threshold


def _write(path: Path, package: frost.keys.PublicKeyPackage, form: str) -> None:
    group = json.dumps({"public_key_package": list(package.to_bincode())}, indent=2)
    path.write_text(group if form == "group" else package.to_json())


forms = pytest.mark.parametrize("form", ["group", "crate"])


@forms
@pytest.mark.parametrize("states", [True, False])
def test_the_threshold_is_derived(tmp_path: Path, form: str, states: bool) -> None:  # noqa: FBT001
    path = tmp_path / "group.json"
    for most in range(2, 7):
        for least in range(2, most + 1):
            _, package = frost.keys.generate_with_dealer(most, least)
            said = least if states else None
            _write(
                path,
                frost.keys.PublicKeyPackage(package.verifying_shares, package.verifying_key, min_signers=said),
                form,
            )
            assert Group.load("mint", path).min_signers == least
            assert Group.load("mint", path, least).package == package
            for other in {2, 3, 255} - {least}:
                with pytest.raises(ConfigError) as caught:
                    Group.load("mint", path, other)
                assert caught.value.path == "keys.mint.min_signers"
                assert str(caught.value) == (
                    f"keys.mint.min_signers: says {other}, but {path} is of a {least}-of-{most} group"
                )


@forms
def test_the_largest_group_takes_no_time(tmp_path: Path, form: str) -> None:
    path = tmp_path / "group.json"
    for least in (2, 128, 255):
        _, package = frost.keys.generate_with_dealer(255, least)
        _write(path, frost.keys.PublicKeyPackage(package.verifying_shares, package.verifying_key, None), form)
        assert path.stat().st_size < MAX_BYTES / 3
        start = time.process_time()
        assert Group.load("mint", path).min_signers == least
        assert time.process_time() - start < 1


@forms
def test_groups_that_are_too_large(tmp_path: Path, form: str) -> None:
    _, package = frost.keys.generate_with_dealer(256, 2)
    path = tmp_path / "group.json"
    _write(path, package, form)
    with pytest.raises(ConfigError, match=r"verifying_shares: 256 signers; at most 255 are possible$"):
        Group.load("mint", path)


# What is wrong, by form: the exact text


_, PACKAGE = frost.keys.generate_with_dealer(3, 2)
_, OTHER = frost.keys.generate_with_dealer(3, 2)
DATA = PACKAGE.to_bincode()
SHARES = 13
KEY = SHARES + 3 * 64
THRESHOLD = KEY + 32
NO_POINT = _number(2)
IDENTITY = _number(1)
SMALL_ORDER = _number(FIELD_ORDER - 1)
MIXED_ORDER = _number(FIELD_ORDER - int.from_bytes(BASE_POINT, "little"))
NOT_CANONICAL = _number(FIELD_ORDER + 1)
FLAT = frost.keys.PublicKeyPackage(
    {who: frost.keys.VerifyingShare.deserialize(PACKAGE.verifying_key.serialize()) for who in (1, 2, 3)},
    PACKAGE.verifying_key,
    None,
)


def _put(offset: int, data: bytes) -> list[int]:
    return list(DATA[:offset] + data + DATA[offset + len(data) :])


TOO_EARLY = "the bytes end too early"
NUMBERS = "must be 2 to 65535"
NO_NUMBER = "not a number from 1 to 65535; other identifiers cannot be used here"
BYTES: dict[str, tuple[object, str]] = {
    "no list": ("AAAA", "public_key_package: not a list of numbers"),
    "null": (None, "public_key_package: not a list of numbers"),
    "object": ({"0": 0}, "public_key_package: not a list of numbers"),
    "256": ([0, 256], "public_key_package[1]: not a number from 0 to 255"),
    "-1": ([-1], "public_key_package[0]: not a number from 0 to 255"),
    "true": ([0, 0, True], "public_key_package[2]: not a number from 0 to 255"),
    "1.0": ([1.0], "public_key_package[0]: not a number from 0 to 255"),
    "text": (["00"], "public_key_package[0]: not a number from 0 to 255"),
    "empty": ([], f"public_key_package: header.version: {TOO_EARLY}"),
    "cut in the ciphersuite": (list(DATA[:4]), f"public_key_package: header.ciphersuite: {TOO_EARLY}"),
    "cut in the count": (list(DATA[:12]), f"public_key_package: verifying_shares: {TOO_EARLY}"),
    "cut in an identifier": (
        list(DATA[: SHARES + 70]),
        f"public_key_package: verifying_shares, identifier 2 of 3: {TOO_EARLY}",
    ),
    "cut in a share": (list(DATA[: SHARES + 127]), f"public_key_package: verifying_shares[2]: {TOO_EARLY}"),
    "cut in the key": (list(DATA[: KEY + 31]), f"public_key_package: verifying_key: {TOO_EARLY}"),
    "cut in the threshold": (list(DATA[:-1]), f"public_key_package: min_signers: {TOO_EARLY}"),
    "one more byte": ([*DATA, 0], "public_key_package: there are more bytes than the value has"),
    "one more byte, version 2": (
        [*DATA[:THRESHOLD], 0],
        "public_key_package: there are more bytes than the value has",
    ),
    "version": (_put(0, b"\1"), "public_key_package: header.version: not a version of the encoding that is known"),
    "ciphersuite": (
        _put(1, b"\0\0\0\0"),
        "public_key_package: header.ciphersuite: another ciphersuite than FROST(Ed25519, SHA-512)",
    ),
    "no signer": (_put(5, bytes(8)), f"public_key_package: verifying_shares: max_signers {NUMBERS}"),
    "one signer": (_put(5, b"\1"), f"public_key_package: verifying_shares: max_signers {NUMBERS}"),
    "2^64 signers": (_put(5, b"\xff" * 8), f"public_key_package: verifying_shares: max_signers {NUMBERS}"),
    "identifier 0": (
        _put(SHARES, bytes(32)),
        "public_key_package: verifying_shares, identifier 1 of 3: zero, which is not allowed here",
    ),
    "no scalar": (
        _put(SHARES + 64, _number(GROUP_ORDER)),
        "public_key_package: verifying_shares, identifier 2 of 3: not a scalar in its canonical encoding",
    ),
    "an identifier twice": (
        _put(SHARES + 64, _number(1)),
        "public_key_package: verifying_shares, identifier 2 of 3: duplicated identifier",
    ),
    "not sorted": (
        _put(SHARES, _number(3)),
        "public_key_package: verifying_shares, identifier 2 of 3: the identifiers must ascend",
    ),
    "identifier 65536": (
        _put(SHARES + 128, _number(65536)),
        f"public_key_package: verifying_shares, identifier 3 of 3: {NO_NUMBER}",
    ),
    "no point": (_put(SHARES + 160, NO_POINT), "public_key_package: verifying_shares[3]: not a point of the curve"),
    "identity": (
        _put(SHARES + 96, IDENTITY),
        "public_key_package: verifying_shares[2]: the identity, which is not allowed here",
    ),
    "small order": (
        _put(SHARES + 32, SMALL_ORDER),
        "public_key_package: verifying_shares[1]: a point outside the group of prime order",
    ),
    "mixed order": (
        _put(SHARES + 32, MIXED_ORDER),
        "public_key_package: verifying_shares[1]: a point outside the group of prime order",
    ),
    "not canonical": (
        _put(SHARES + 32, NOT_CANONICAL),
        "public_key_package: verifying_shares[1]: the identity, which is not allowed here",
    ),
    "key: no point": (_put(KEY, NO_POINT), "public_key_package: verifying_key: not a point of the curve"),
    "key: identity": (
        _put(KEY, IDENTITY),
        "public_key_package: verifying_key: the identity, which is not allowed here",
    ),
    "key: small order": (
        _put(KEY, SMALL_ORDER),
        "public_key_package: verifying_key: a point outside the group of prime order",
    ),
    "key of another group": (
        _put(KEY, OTHER.verifying_key.serialize()),
        "public_key_package: verifying_key: does not fit the verifying_shares",
    ),
    "share of another group": (
        _put(SHARES + 32, OTHER.verifying_shares[frost.Identifier(1)].serialize()),
        "public_key_package: verifying_key: does not fit the verifying_shares",
    ),
    "threshold 1": (
        _put(THRESHOLD + 1, b"\1"),
        "public_key_package: min_signers: min_signers must be at least 2 and not larger than max_signers",
    ),
    "threshold 3": (
        _put(THRESHOLD + 1, b"\3"),
        "public_key_package: min_signers: says 3, but 2 of the verifying_shares make the key",
    ),
    "everybody has the key": (
        list(FLAT.to_bincode()),
        "public_key_package: verifying_shares: every signer has the whole key",
    ),
}


def _refused(path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Group.load("mint", path)
    assert str(caught.value) == f"keys.mint: {path}: {text}"
    assert caught.value.path == "keys.mint"


@pytest.mark.parametrize("name", BYTES)
def test_wrong_bytes(tmp_path: Path, name: str) -> None:
    value, text = BYTES[name]
    path = tmp_path / "group.json"
    path.write_text(json.dumps({"public_key_package": value}))
    _refused(path, text)


Edit = Callable[[dict[str, Any]], object]
_IDS = [_number(value).hex() for value in (1, 2, 3)]


def _share(number: int, value: object) -> Edit:
    return lambda group: group["verifying_shares"].update({_IDS[number - 1]: value})


def _member(name: str, value: object) -> Edit:
    return lambda group: group.update({name: value})


def _renamed(old: str, new: str) -> Edit:
    return lambda group: group["verifying_shares"].update({new: group["verifying_shares"].pop(old)})


def _others_share(group: dict[str, Any]) -> None:
    group["verifying_shares"][_IDS[0]] = OTHER.verifying_shares[frost.Identifier(1)].serialize().hex()


MEMBERS: dict[str, tuple[Edit, str]] = {
    "no header": (lambda group: group.pop("header"), "header: missing"),
    "no shares": (lambda group: group.pop("verifying_shares"), "verifying_shares: missing"),
    "no key": (lambda group: group.pop("verifying_key"), "verifying_key: missing"),
    "unknown member": (_member("zone", 1), "'zone': unknown"),
    "secret": (
        _member("signing_share", "00"),
        "signing_share: this is the secret share of one signer, not the file of a group",
    ),
    "header is no object": (_member("header", []), "header: not an object"),
    "no version": (lambda group: group["header"].pop("version"), "header.version: missing"),
    "unknown in the header": (lambda group: group["header"].update(x=1), "header.'x': unknown"),
    "version": (
        lambda group: group["header"].update(version=9),
        "header.version: not a version of the encoding that is known",
    ),
    "version false": (
        lambda group: group["header"].update(version=False),
        "header.version: not a version of the encoding that is known",
    ),
    "ciphersuite": (
        lambda group: group["header"].update(ciphersuite="FROST(Pallas, BLAKE2b-512)"),
        "header.ciphersuite: 'FROST(Pallas, BLAKE2b-512)' is not FROST-ED25519-SHA512-v1",
    ),
    "long ciphersuite": (
        lambda group: group["header"].update(ciphersuite="FROST" + "x" * 1000),
        "header.ciphersuite: what it says is not FROST-ED25519-SHA512-v1",
    ),
    "shares are a list": (_member("verifying_shares", []), "verifying_shares: not an object"),
    "no signer": (_member("verifying_shares", {}), f"verifying_shares: max_signers {NUMBERS}"),
    "one signer": (
        lambda group: [group["verifying_shares"].pop(each) for each in _IDS[1:]],
        f"verifying_shares: max_signers {NUMBERS}",
    ),
    "short identifier": (
        _renamed(_IDS[0], "01"),
        "verifying_shares, identifier 3 of 3: not 64 hexadecimal digits",
    ),
    "identifier 0": (
        _renamed(_IDS[0], "00" * 32),
        "verifying_shares, identifier 3 of 3: zero, which is not allowed here",
    ),
    "no scalar": (
        _renamed(_IDS[0], "ff" * 32),
        "verifying_shares, identifier 3 of 3: not a scalar in its canonical encoding",
    ),
    "identifier 65536": (
        _renamed(_IDS[2], _number(65536).hex()),
        f"verifying_shares, identifier 3 of 3: {NO_NUMBER}",
    ),
    "digits": (_share(3, "zz" * 32), "verifying_shares[3]: not 64 hexadecimal digits"),
    "blanks": (_share(3, "00 " * 21 + "0"), "verifying_shares[3]: not 64 hexadecimal digits"),
    "a number": (_share(3, 5), "verifying_shares[3]: not 64 hexadecimal digits"),
    "short": (_share(2, "00"), "verifying_shares[2]: not 64 hexadecimal digits"),
    "no point": (_share(3, NO_POINT.hex()), "verifying_shares[3]: not a point of the curve"),
    "identity": (_share(1, IDENTITY.hex()), "verifying_shares[1]: the identity, which is not allowed here"),
    "small order": (_share(1, SMALL_ORDER.hex()), "verifying_shares[1]: a point outside the group of prime order"),
    "not canonical": (_share(1, NOT_CANONICAL.hex()), "verifying_shares[1]: the identity, which is not allowed here"),
    "key: null": (_member("verifying_key", None), "verifying_key: not 64 hexadecimal digits"),
    "key: no point": (_member("verifying_key", NO_POINT.hex()), "verifying_key: not a point of the curve"),
    "key of another group": (
        _member("verifying_key", OTHER.verifying_key.serialize().hex()),
        "verifying_key: does not fit the verifying_shares",
    ),
    "share of another group": (_others_share, "verifying_key: does not fit the verifying_shares"),
    "threshold is text": (_member("min_signers", "2"), "min_signers: not a number"),
    "threshold is true": (_member("min_signers", True), "min_signers: not a number"),
    "threshold 1": (
        _member("min_signers", 1),
        "min_signers: min_signers must be at least 2 and not larger than max_signers",
    ),
    "threshold -1": (
        _member("min_signers", -1),
        "min_signers: min_signers must be at least 2 and not larger than max_signers",
    ),
    "threshold 2^70": (
        _member("min_signers", 2**70),
        "min_signers: min_signers must be at least 2 and not larger than max_signers",
    ),
    "threshold 3": (_member("min_signers", 3), "min_signers: says 3, but 2 of the verifying_shares make the key"),
    "everybody has the key": (
        lambda group: group.update(json.loads(FLAT.to_json())),
        "verifying_shares: every signer has the whole key",
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_wrong_members(tmp_path: Path, name: str) -> None:
    edit, text = MEMBERS[name]
    value = json.loads(PACKAGE.to_json())
    edit(value)
    path = tmp_path / "group.json"
    path.write_text(json.dumps(value))
    _refused(path, text)


def test_an_identifier_in_two_spellings(tmp_path: Path) -> None:
    _, package = frost.keys.generate_with_dealer(2, 2, [10, 11])
    value = json.loads(package.to_json())
    ten, _ = value["verifying_shares"]
    value["verifying_shares"][ten.upper()] = value["verifying_shares"][ten]
    path = tmp_path / "group.json"
    path.write_text(json.dumps(value))
    _refused(path, "verifying_shares, identifier 3 of 3: is there twice")


TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not JSON (line 1, column 1)"),
    "cut": (b'{\n"header":', "is not JSON (line 2, column 10)"),
    "list": (b"[]", "is not a JSON object"),
    "null": (b"null", "is not a JSON object"),
    "not UTF-8": (b"\xff\xfe", "is not JSON"),
    "NUL": (b"\0", "is not JSON (line 1, column 1)"),
    "NaN": (b'{"public_key_package": NaN}', "is not JSON"),
    "deep": (b"[" * 100_000, "is not JSON"),
    "deep objects": (b'{"header":' * 100_000, "is not JSON"),
    "a number of a million digits": (b'{"x":' + b"1" * 900_000 + b"}", "is not JSON"),
    "no members": (b"{}", "public_key_package: missing"),
    "other members": (b'{"a": 1}', "public_key_package: missing"),
    "bytes twice": (b'{"public_key_package": [], "public_key_package": []}', "'public_key_package' is there twice"),
    "twice inside": (b'{"header": {"version": 0, "version": 0}}', "'version' is there twice"),
    "twice somewhere": (b'{"public_key_package": [], "note": [{"a": 1, "a": 1}]}', "'a' is there twice"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_wrong_text(tmp_path: Path, name: str) -> None:
    content, text = TEXTS[name]
    path = tmp_path / "group.json"
    path.write_bytes(content)
    _refused(path, text)


@forms
def test_cut_off_anywhere(tmp_path: Path, form: str) -> None:
    path = tmp_path / "group.json"
    _write(path, PACKAGE, form)
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ConfigError, match="is not JSON"):
            Group.load("mint", path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing, pipe, large = (tmp_path / name for name in ("missing.json", "pipe", "large.json"))
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(1 << 40)  # without blocks: reading it whole would not end
    for path, text in (
        (missing, ": No such file or directory"),
        (tmp_path, ": it is not a file"),
        (pipe, ": it is not a file"),
        (large, f": it is larger than {MAX_BYTES} bytes"),
    ):
        with pytest.raises(ConfigError) as caught:
            Group.load("mint", path)
        assert str(caught.value) == f"keys.mint: cannot read the group file {path}{text}"


# Whatever is in the file: an error of ours, or a group that says exactly what the file says


def _survives(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        group = Group.load("mint", path)
    except ConfigError:
        return
    found = json.loads(content)
    if "public_key_package" in found:
        data = bytes(found["public_key_package"])
        assert group.package.to_bincode() in (data, data + bytes([1, group.min_signers, 0]))
    else:
        found["min_signers"] = group.min_signers
        found["verifying_key"] = found["verifying_key"].lower()  # digits may be of either case
        found["verifying_shares"] = {a.lower(): b.lower() for a, b in found["verifying_shares"].items()}
        assert json.loads(group.package.to_json()) == found


fuzzed = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@fuzzed
@given(offset=st.integers(0, len(DATA)), data=st.binary(max_size=4), cut=st.integers(0, 4))
def test_mutated_bytes(tmp_path: Path, offset: int, data: bytes, cut: int) -> None:
    mutated = DATA[:offset] + data + DATA[offset + cut :]
    _survives(tmp_path / "group.json", json.dumps({"public_key_package": list(mutated)}).encode())


@forms
@fuzzed
@given(place=st.floats(0, 1), data=st.binary(max_size=4), cut=st.integers(0, 4))
def test_mutated_text(tmp_path: Path, form: str, place: float, data: bytes, cut: int) -> None:
    path = tmp_path / "group.json"
    _write(path, PACKAGE, form)
    whole = path.read_bytes()
    offset = int(place * len(whole))
    _survives(path, whole[:offset] + data + whole[offset + cut :])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@fuzzed
@given(
    name=st.sampled_from(["public_key_package", "header", "verifying_shares", "verifying_key", "min_signers"]),
    value=JSON,
)
def test_any_member_anything(tmp_path: Path, name: str, value: object) -> None:
    _survives(tmp_path / "group.json", json.dumps(json.loads(PACKAGE.to_json()) | {name: value}).encode())
