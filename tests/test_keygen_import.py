"""Taking over groups of the Zcash Foundation's tools, from files as their code writes them with every crate version."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import frost_ed25519 as frost
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen.content import MAX_BYTES
from frost_sidecar.keygen.group import Group
from frost_sidecar.keygen.importer import Imported, import_group
from frost_sidecar.keygen.tool_files import read_tool_file
from frost_sidecar.signer.keystore import load_share

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = (1, 2, 3)


@dataclass
class Made:
    """A 2-of-3 group as the tools leave it in a folder."""

    folder: Path
    public: bytes

    def files(self, kind: str) -> list[Path]:
        return sorted(self.folder.glob(f"{kind}-[0-9].*"))

    @property
    def package(self) -> Path:
        return self.folder / "public-key-package.json"

    def secrets(self) -> set[str]:
        """The signing shares, in hexadecimal."""
        return {json.loads(path.read_text())["signing_share"] for path in self.files("key-package")}


def _make(version: int, folder: Path, least: int = 2, most: int = 3) -> Made:
    program = FIXTURES / "rust" / "target" / "debug" / f"group-file-{version}"
    assert program.exists(), f"{program} is not built: run make test, or see {FIXTURES / 'README.md'}"
    command = [str(program), "tools", str(folder), str(least), str(most)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    for path in folder.iterdir():
        path.chmod(0o600)
    return Made(folder, bytes.fromhex(done.stdout.strip()))


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Made]:
    return {version: _make(version, tmp_path_factory.mktemp("tools") / "made") for version in VERSIONS}


@pytest.fixture
def made(originals: dict[int, Made], tmp_path: Path) -> Made:
    """Files of version 3, to spoil."""
    shutil.copytree(originals[3].folder, tmp_path / "made")
    return Made(tmp_path / "made", originals[3].public)


@pytest.fixture
def second(originals: dict[int, Made]) -> Made:
    """Another group."""
    return originals[2]


def _sign(imported: Imported, signers: list[int]) -> None:
    """The imported files alone make a signature of the group."""
    shares = {each: load_share(imported.share_files[each], setting="share") for each in signers}
    nonces, commitments = {}, {}
    for each, share in shares.items():
        nonces[each], commitments[each] = frost.round1.commit(share)
    package = frost.SigningPackage(commitments, b"message")
    answers = {each: frost.round2.sign(package, nonces[each], share) for each, share in shares.items()}
    group = Group.load("mint", imported.group_file)
    frost.VerifyingKey.deserialize(imported.group_public).verify(
        b"message", frost.aggregate(package, answers, group.package)
    )


KINDS: dict[str, Callable[[Made], list[Path]]] = {
    "the trusted dealer's": lambda made: [*made.files("key-package"), made.package],
    "key packages": lambda made: [made.package, *made.files("participant")],
    "frost-client's": lambda made: made.files("credentials"),
    "mixed": lambda made: [made.files("key-package")[0], made.files("participant")[1], made.files("credentials")[2]],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_is_taken_over(originals: dict[int, Made], tmp_path: Path, version: int, kind: str) -> None:
    made = originals[version]
    imported = import_group(KINDS[kind](made), tmp_path / "keys")
    assert (imported.group_public, imported.min_signers, imported.max_signers) == (made.public, 2, 3)
    assert imported.exposed == ()
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()} == {
        "group.json": 0o644,
        "share-1.json": 0o600,
        "share-2.json": 0o600,
        "share-3.json": 0o600,
    }
    for signers in ([1, 2], [2, 3], [1, 2, 3]):
        _sign(imported, signers)


def test_a_signer_imports_its_own_file_alone(made: Made, tmp_path: Path) -> None:
    imported = import_group([made.files("credentials")[1]], tmp_path / "keys")
    assert imported.share_files == {2: tmp_path / "keys" / "share-2.json"}
    assert Group.load("mint", imported.group_file).public == made.public


def test_a_coordinator_imports_the_public_side_alone(made: Made, tmp_path: Path) -> None:
    imported = import_group([made.package], tmp_path / "keys")
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["group.json"]
    assert Group.load("mint", imported.group_file).min_signers == 2


def _two_groups(made: Made, second: Made) -> Path:
    """One user of frost-client in two groups."""
    path = made.folder / "two.toml"
    entries = second.files("credentials")[0].read_text()
    path.write_text(made.files("credentials")[0].read_text() + entries[entries.index("[group.") :])
    path.chmod(0o600)
    return path


def test_one_of_several_groups(made: Made, second: Made, tmp_path: Path) -> None:
    path = _two_groups(made, second)
    for group in (made, second):
        imported = import_group([path], tmp_path / group.public.hex(), group.public)
        assert imported.group_public == group.public
    known = ", ".join(repr(each.hex()) for each in sorted([made.public, second.public]))
    for wanted, text in (
        (None, f"{path}: group: choose one of 2 with --group; there are {known}"),
        (bytes(32), f"{path}: group: none has the public key that --group says; there are {known}"),
    ):
        with pytest.raises(ConfigError) as caught:
            import_group([path], tmp_path / "keys", wanted)
        assert str(caught.value) == text
    with pytest.raises(ConfigError, match=f"is of the group {made.public.hex()}, not of {'00' * 32}$"):
        import_group([made.package], tmp_path / "keys", bytes(32))


def test_files_that_others_can_read_are_named(made: Made, tmp_path: Path) -> None:
    files = [*made.files("key-package"), made.package]
    files[0].chmod(0o604)
    files[1].chmod(0o640)
    made.package.chmod(0o644)
    assert import_group(files, tmp_path / "keys").exposed == tuple(files[:2])


@pytest.mark.parametrize("name", ["share-1.json", "share-3.json", "group.json"])
def test_what_is_there_is_never_overwritten(made: Made, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / name).write_text("precious")
    with pytest.raises(ConfigError, match=f"cannot write .*{name}: File exists"):
        import_group(made.files("credentials"), folder)
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "precious"


# What is wrong, with the exact text


def _json(path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))
    return path


def _text(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text))
    return path


def _swap_share(made: Made, number: int, second: Made) -> Path:
    """A dealt share with another group's secret in it."""
    other = json.loads(second.files("key-package")[number - 1].read_text())["signing_share"]
    return _json(made.files("key-package")[number - 1], lambda share: share.update(signing_share=other))


def _renumber(made: Made, number: int) -> Path:
    """A key package that speaks for another signer: its two parts still belong together."""
    identifier = number.to_bytes(32, "little").hex()
    return _json(made.files("participant")[0], lambda share: share.update(identifier=identifier))


def _short_commitment(made: Made) -> Path:
    return _json(made.files("key-package")[0], lambda share: share["commitment"].pop())


def _other_threshold(made: Made) -> Path:
    return _json(made.files("participant")[0], lambda share: share.update(min_signers=3))


Case = Callable[[Made, Made], tuple[list[Path], str]]


def _in_toml(made: Made, old: str, new: str, text: str) -> tuple[list[Path], str]:
    path = _text(made.files("credentials")[0], old, new)
    return [path], f"{path}: group.{made.public.hex()!r}.{text}"


def _of(path: Path, text: str, *more: Path) -> tuple[list[Path], str]:
    return [path, *more], f"{path}: {text}"


SUITE = "is not FROST-ED25519-SHA512-v1"
PALLAS = "FROST(Pallas, BLAKE2b-512)"


def _spoil_header(path: Path, suite: str = PALLAS) -> Path:
    return _json(path, lambda value: value["header"].update(ciphersuite=suite))


CASES: dict[str, Case] = {
    "missing": lambda made, _: (
        [made.folder / "none.json"],
        f"cannot read {made.folder / 'none.json'}: No such file or directory",
    ),
    "a folder": lambda made, _: _of(made.folder, "is not a file"),
    "large": lambda made, _: _of(_large(made), f"is larger than {MAX_BYTES} bytes"),
    "neither JSON nor TOML": lambda made, _: _of(
        _text(made.package, r"^\{", "[["), "is neither a JSON object nor a configuration file of frost-client"
    ),
    "cut JSON": lambda made, _: _of(
        _text(made.files("key-package")[0], r"\}$", ""), "is not JSON (line 1, column 376)"
    ),
    "another JSON": lambda made, _: _of(_json(made.package, dict.clear), "public_key_package: missing"),
    "no groups": lambda made, _: _of(
        _text(made.files("credentials")[0], r"(?s)\[group\..*", ""),
        "group: missing; a configuration file of frost-client has a table for each group",
    ),
    "public package of another suite": lambda made, _: _of(
        _spoil_header(made.package), f"header.ciphersuite: '{PALLAS}' {SUITE}"
    ),
    "share of another suite": lambda made, _: _of(
        _spoil_header(made.files("key-package")[0], "FROST-RISTRETTO255-SHA512-v1"),
        f"header.ciphersuite: 'FROST-RISTRETTO255-SHA512-v1' {SUITE}",
        made.package,
    ),
    "key package of another suite": lambda made, _: _of(
        _spoil_header(made.files("participant")[0]), f"header.ciphersuite: '{PALLAS}' {SUITE}", made.package
    ),
    "redpallas in frost-client": lambda made, _: _in_toml(
        made, "FROST-ED25519-SHA512-v1", PALLAS, f"ciphersuite: '{PALLAS}' {SUITE}"
    ),
    "no hexadecimal digits": lambda made, _: _in_toml(
        made, 'key_package = "00b1', 'key_package = "0 b1', "public_key_package: not hexadecimal digits, two for a byte"
    ),
    "cut public package": lambda made, _: _in_toml(
        made,
        '(public_key_package = "[0-9a-f]{100})[0-9a-f]*',
        r"\1",
        "public_key_package: error deserializing value",
    ),
    "cut key package": lambda made, _: _in_toml(
        made, '(\nkey_package = "[0-9a-f]{100})[0-9a-f]*', r"\1", "key_package: error deserializing value"
    ),
    "key package that does not fit itself": lambda made, _: _in_toml(
        made,
        '(\nkey_package = "[0-9a-f]{74})[0-9a-f]{64}',
        rf"\g<1>{'01' + '00' * 31}",
        "key_package: the signing share does not belong to the verifying share",
    ),
    "a group under another name": lambda made, _: _renamed_group(made),
    "no public side": lambda made, _: (
        made.files("key-package"),
        "--from: no file has the public key package; add public-key-package.json",
    ),
    "a share that the dealer did not commit to": lambda made, second: _of(
        _swap_share(made, 1, second), "signing_share: invalid secret share", made.package
    ),
    "a share of another group": lambda made, second: (
        [made.package, second.files("key-package")[0]],
        f"{second.files('key-package')[0]}: is of the group {second.public.hex()}, not of {made.public.hex()}",
    ),
    "another signer's share": lambda made, _: (
        [made.package, _renumber(made, 2)],
        f"{made.files('participant')[0]}: signing_share: does not belong to the signer's verifying share in the group",
    ),
    "a stranger's share": lambda made, _: (
        [made.package, _renumber(made, 7)],
        f"{made.files('participant')[0]}: identifier: no signer of the group has it",
    ),
    "a share twice": lambda made, _: (
        [made.package, made.files("participant")[0], made.files("key-package")[0]],
        f"{made.files('key-package')[0]}: has the share of signer 1, as {made.files('participant')[0]} has",
    ),
    "another threshold": lambda made, _: (
        [made.package, _other_threshold(made)],
        f"{made.files('participant')[0]}: min_signers: says 3; the group's is 2",
    ),
    "a short commitment": lambda made, _: _of(_short_commitment(made), "incorrect number of commitments", made.package),
    "a member twice": lambda made, _: _of(
        _text(made.files("key-package")[0], r'^\{"header"', '{"header":{},"header"'), "'header' is there twice"
    ),
    "an unknown member": lambda made, _: _of(
        _json(made.files("key-package")[0], lambda share: share.update(x=1)), "'x': unknown", made.package
    ),
    "no identifier": lambda made, _: _of(
        _json(made.files("participant")[0], lambda share: share.pop("identifier")), "identifier: missing", made.package
    ),
    "a short share": lambda made, _: _of(
        _json(made.files("participant")[0], lambda share: share.update(signing_share="00")),
        "signing_share: not 64 hexadecimal digits",
        made.package,
    ),
    "no commitment": lambda made, _: _of(
        _json(made.files("key-package")[0], lambda share: share.update(commitment=["00"])),
        "not the JSON form of SecretShare (line 1, column 255)",
        made.package,
    ),
    "points that do not belong together": lambda made, second: _of(
        _json(made.package, lambda value: value.update(verifying_key=second.public.hex())),
        "verifying_key: does not fit the verifying_shares",
    ),
}


def _large(made: Made) -> Path:
    path = made.folder / "large.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return path


def _renamed_group(made: Made) -> tuple[list[Path], str]:
    path = made.files("credentials")[0]
    _text(path, rf"\[group\.{made.public.hex()}", f"[group.{'ab' * 32}")
    return [path], f"{path}: group.{'ab' * 32!r}.public_key_package: is of another group"


def _chain(error: BaseException) -> str:
    """Everything that a crash reporter would print of an error."""
    return "".join(traceback.format_exception(error)) + repr(error.__context__)


@pytest.mark.parametrize("name", CASES)
def test_files_that_cannot_be_used(made: Made, second: Made, tmp_path: Path, name: str) -> None:
    secrets = made.secrets() | second.secrets()
    files, text = CASES[name](made, second)
    with pytest.raises(ConfigError) as caught:
        import_group(files, tmp_path / "keys")
    assert str(caught.value) == text
    assert not (tmp_path / "keys").exists()
    assert not [secret for secret in secrets if secret in _chain(caught.value)]
    assert caught.value.__context__ is None


def test_public_sides_that_differ(made: Made, tmp_path: Path) -> None:
    """The same key and threshold, but one file leaves a signer out."""
    few = tmp_path / "few.json"
    shutil.copy(made.package, few)
    _json(few, lambda value: value["verifying_shares"].popitem())
    with pytest.raises(ConfigError) as caught:
        import_group([made.package, few], tmp_path / "keys")
    assert str(caught.value) == f"{few}: has other verifying_shares than {made.package}"


def test_a_dealer_that_told_two_stories(tmp_path: Path) -> None:
    """A commitment that fits its share and the group's key, but not the shares of the others."""
    made = _make(3, tmp_path / "made", 3, 4)
    own = frost.keys.SecretShare.from_json(made.files("key-package")[0].read_text())
    zero, one, two = own.commitment.serialize()
    # Coefficients a and b may change places at x = 1: a·1 + b·1² = b·1 + a·1².
    swapped = json.loads(own.to_json()) | {"commitment": [part.hex() for part in (zero, two, one)]}
    path = made.files("key-package")[0]
    path.write_text(json.dumps(swapped))
    assert read_tool_file(path).share is not None
    with pytest.raises(ConfigError) as caught:
        import_group([path, made.package], tmp_path / "keys")
    assert str(caught.value) == f"{path}: commitment: does not make the verifying_shares of the group"


def test_too_many_files(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--from: 513 files; at most 512 are read at once$"):
        import_group([made.package] * 513, tmp_path / "keys")


# The command


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "frost_sidecar", "keygen", "import", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_command(made: Made, tmp_path: Path) -> None:
    made.files("key-package")[2].chmod(0o644)
    # As a shell expands: --from key-package-*.json public-key-package.json
    done = _run("--from", *made.files("key-package"), made.package, "--out", tmp_path / "keys")
    assert done.returncode == 0
    for said in ("2 of 3, public key", "group.json", "share-1.json", "share-3.json", "0600", "signer 2, nobody else"):
        assert said in done.stdout
    open_file = f"{made.files('key-package')[2]} has a share and is open to other users of this machine."
    assert done.stderr.splitlines()[0] == f"Warning: {open_file}"
    assert "still hold the shares" in done.stderr
    assert not [secret for secret in made.secrets() if secret in done.stdout + done.stderr]


def test_the_command_as_json(made: Made, second: Made, tmp_path: Path) -> None:
    path = _two_groups(made, second)
    folder = tmp_path / "keys"
    done = _run("--from", path, "--group", made.public.hex().upper(), "--out", folder, "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["group_file"] == str(folder / "group.json")
    assert answer["share_files"] == {"1": str(folder / "share-1.json")}
    assert Group.load("mint", folder / "group.json").public == made.public


def test_the_command_refuses(made: Made, tmp_path: Path) -> None:
    for arguments, text in (
        (["--from", made.folder / "none.json"], f"cannot read {made.folder / 'none.json'}: No such file or directory"),
        (["--from", made.package, "--group", "zz"], "--group: a group's name is its public key, 64 hexadecimal digits"),
        (["--from", made.package, "--group", "00"], "--group: a group's name is its public key, 64 hexadecimal digits"),
    ):
        done = _run(*arguments, "--out", tmp_path / "keys")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"frost-sidecar: {text}\n")
    assert not (tmp_path / "keys").exists()


# Whatever is in the file


fuzzed = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.mark.parametrize("name", ["key-package-1.json", "participant-1.json", "credentials-1.toml"])
@fuzzed
@given(place=st.floats(0, 1), data=st.binary(max_size=4), cut=st.integers(0, 4))
def test_mutated_files(
    originals: dict[int, Made], tmp_path: Path, name: str, place: float, data: bytes, cut: int
) -> None:
    """An error of ours without the secret, or the very share that the file had before."""
    made = originals[3]
    whole = (made.folder / name).read_bytes()
    offset = int(place * len(whole))
    path = tmp_path / name
    path.write_bytes(whole[:offset] + data + whole[offset + cut :])
    before = read_tool_file(made.folder / name).share
    assert before is not None
    try:
        share = read_tool_file(path).share
    except ConfigError as error:
        chain = _chain(error)
    else:
        chain = ""
        assert share is not None
        assert share.verifying_share == before.verifying_share
    assert not [secret for secret in made.secrets() if secret in chain]


@fuzzed
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_random_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        read_tool_file(path)
