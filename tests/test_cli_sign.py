"""``frost-sidecar sign`` and ``verify`` as a user meets them: processes, their output, and their exit status."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from frost_sidecar.cli import main
from frost_sidecar.encoding import b64url
from frost_sidecar.jose import jwk_set, pyjwt_key, thumbprint
from frost_sidecar.testing.processes import ProcessCluster

MESSAGE = b"\xfb\xff\xfe any bytes\n"
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER = Ed25519PrivateKey.generate().public_key().public_bytes_raw()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ProcessCluster]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as running:
        running.write_coordinator(running.folder / "mint.toml", running.folder / "mint-audit.log")
        running.start()
        yield running


def _run(*arguments: object, given: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "400", "PYTHONWARNINGS": "error", **environ}
    return subprocess.run(
        [sys.executable, "-m", "frost_sidecar", *map(str, arguments)],
        capture_output=True,
        input=given,
        timeout=60,
        env=environment,
        check=False,
    )


def _call(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The same command line in this process, for tables of cases: a process each would take a minute."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    words = ["frost-sidecar", *map(str, arguments)]
    status: object = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setenv("COLUMNS", "400")
        patch.delenv("FROST_SIDECAR_SOCKET", raising=False)
        try:
            main()
        except SystemExit as ended:
            status = ended.code or 0
    assert isinstance(status, int)
    for stream in (out, err):
        stream.flush()
    return subprocess.CompletedProcess(words, status, out.buffer.getvalue(), err.buffer.getvalue())


def _printed(done: subprocess.CompletedProcess[bytes]) -> bytes:
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout


def _refused(done: subprocess.CompletedProcess[bytes], said: str) -> None:
    """One line on standard error, exit status 2, nothing on standard output."""
    assert (done.returncode, done.stdout) == (2, b""), done
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("frost-sidecar: ")
    assert said in line


def _check(cluster: ProcessCluster, signature: bytes, message: bytes = MESSAGE) -> None:
    Ed25519PublicKey.from_public_bytes(cluster.dealt.group_public).verify(signature, message)


def test_a_signature_of_standard_input_and_of_a_file(cluster: ProcessCluster, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(MESSAGE)
    printed = _printed(_run("sign", "--socket", cluster.socket, given=MESSAGE))
    assert printed.endswith(b"\n")
    _check(cluster, base64.b64decode(printed.strip(), validate=True))
    printed = _printed(_run("sign", tmp_path / "message", FROST_SIDECAR_SOCKET=str(cluster.socket)))
    _check(cluster, base64.b64decode(printed.strip(), validate=True))


def test_raw_and_json(cluster: ProcessCluster) -> None:
    where = ["sign", "--target", f"unix:{cluster.socket}"]
    _check(cluster, _printed(_run(*where, "--raw", given=MESSAGE)))
    options = ["--json", "--participants", "1,3", "--key", "default", "--idempotency-key", "order-1"]
    first, again = (json.loads(_printed(_run(*where, *options, given=MESSAGE))) for _ in range(2))
    _check(cluster, base64.b64decode(first["signature_b64"], validate=True))
    assert base64.b64decode(first["group_public_b64"]) == cluster.dealt.group_public
    assert (first["participants"], first["key"], first["replayed"]) == ([1, 3], "default", False)
    assert again == {**first, "replayed": True}


def test_in_process_by_a_configuration(cluster: ProcessCluster) -> None:
    """The socket of the environment stands back where an option says otherwise."""
    config = cluster.folder / "mint.toml"
    for where in (["--config", config], ["--target", config]):
        done = _run("sign", *where, "--raw", given=MESSAGE, FROST_SIDECAR_SOCKET="/nonexistent")
        assert done.returncode == 0, done
        _check(cluster, done.stdout)


def test_a_token_that_pyjwt_accepts(cluster: ProcessCluster) -> None:
    claims = {"iss": "mint", "sub": "alice"}
    before = int(time.time())
    options = ["--jwt", "--lifetime", "60", "--typ", "at+jwt"]
    token = _printed(_run("sign", "--socket", cluster.socket, *options, given=json.dumps(claims).encode()))
    text = token.decode().strip()
    key = pyjwt_key(cluster.dealt.group_public)
    decoded = jwt.decode(text, key, algorithms=["EdDSA"])
    assert {name: decoded[name] for name in claims} == claims
    assert before <= decoded["iat"] == decoded["exp"] - 60
    header = jwt.get_unverified_header(text)
    assert header == {"alg": "EdDSA", "kid": thumbprint(cluster.dealt.group_public), "typ": "at+jwt"}


def test_a_jws_over_any_payload(cluster: ProcessCluster) -> None:
    token = _printed(_run("sign", "--socket", cluster.socket, "--jws", given=MESSAGE)).strip()
    checked = jwt.PyJWS().decode(token.decode(), pyjwt_key(cluster.dealt.group_public), algorithms=["EdDSA"])
    assert checked == MESSAGE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say where to sign"),
        (["--socket", "/s", "--target", "unix:/s"], "choose one"),
        (["--socket", ""], "--socket: is empty"),
        (["--target", ""], "--target: is empty"),
        (["--config", ""], "--config: is empty"),
        (["--config", "x.toml", "--socket", ""], "--socket: is empty"),
        (["--socket", "/nonexistent/s"], "no answer from the sidecar at unix:/nonexistent/s: No such file"),
        (["--target", "http://localhost:1"], "not reached over plain HTTP"),
        (["--target", "https://localhost:1", "--tls-cert", "/nonexistent"], "tls.cert: cannot use /nonexistent"),
        (["--config", "/nonexistent.toml"], "cannot read the configuration file"),
        (["/nonexistent", "--socket", "/s"], "/nonexistent: cannot read it: No such file"),
        (["--socket", "/s", "--raw", "--json"], "choose one"),
        (["--socket", "/s", "--jws", "--jwt"], "not both"),
        (["--socket", "/s", "--jws", "--raw"], "print a token"),
        (["--socket", "/s", "--typ", "JWT"], "needs --jws or --jwt"),
        (["--socket", "/s", "--lifetime", "5"], "needs --jwt"),
        (["--socket", "/s", "--participants", "1;3"], "commas between"),
        (["--socket", "/s", "--timeout", "0"], "timeout: 0"),
    ],
)
def test_what_cannot_be_signed_is_one_clear_line(arguments: list[str], said: str) -> None:
    _refused(_call("sign", *arguments, given=b"message"), said)


def test_what_the_sidecar_refuses_is_one_clear_line(cluster: ProcessCluster) -> None:
    where = ["sign", "--socket", cluster.socket]
    _refused(_call(*where, "--key", "other", given=MESSAGE), "'other'")
    _refused(_call(*where, "--participants", "1", given=MESSAGE), "1 signers given, 2 are needed")
    _refused(_call(*where, given=b""), "the message is empty")
    _refused(_call(*where, given=bytes(64 * 1024 + 1)), "more than 65536 bytes")
    _refused(_call(*where, "--jwt", given=b"[1]"), "not a JSON object")
    _refused(_call(*where, "--jwt", given=b'{"a": 1, "a": 2}'), "stands twice")


def test_verify_what_sign_made(cluster: ProcessCluster, tmp_path: Path) -> None:
    signature = _printed(_run("sign", "--socket", cluster.socket, given=MESSAGE)).decode().strip()
    (tmp_path / "raw").write_bytes(base64.b64decode(signature))
    (tmp_path / "text").write_text(signature + "\n")
    (tmp_path / "jwks").write_text(json.dumps(jwk_set([PUBLIC, cluster.dealt.group_public])))
    public = base64.b64encode(cluster.dealt.group_public).decode()
    for key in (["--public", public], ["--group", cluster.dealt.group_file], ["--jwks", tmp_path / "jwks"]):
        for option, value in (("", signature), ("-file", tmp_path / "raw"), ("-file", tmp_path / "text")):
            given = [f"--signature{option}", value]
            printed = _printed(_call("verify", *key, *given, given=MESSAGE)).decode()
            assert "good" in printed.splitlines()[0]
            assert "NOT" not in printed
            assert public in printed
    done = _call("verify", "--public", public, "--signature", signature, "--json", given=MESSAGE + b"!")
    assert (done.returncode, done.stderr) == (1, b"")
    answer = json.loads(done.stdout)
    assert (answer["good"], answer["fault"]) == (False, "the signature does not verify under the key")


def _token(header: object, payload: bytes = b'{"sub":"alice","exp":1}', key: Ed25519PrivateKey = KEY) -> str:
    signing_input = f"{b64url(json.dumps(header).encode())}.{b64url(payload)}"
    return f"{signing_input}.{b64url(key.sign(signing_input.encode()))}"


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our key, another one, and keys of other kinds that are passed over."""
    path = tmp_path_factory.mktemp("jwks") / "jwks.json"
    keys = jwk_set([OTHER, PUBLIC])["keys"] + [{"kty": "RSA", "n": "AQAB"}, {"kty": "OKP", "crv": "X25519"}]
    path.write_text(json.dumps({"keys": keys}))
    return path


def test_a_token_is_shown_with_what_it_says(jwks: Path, tmp_path: Path) -> None:
    header = {"alg": "EdDSA", "kid": thumbprint(PUBLIC), "typ": "JWT"}
    (tmp_path / "token").write_text(_token(header) + "\n")
    printed = _printed(_run("verify", tmp_path / "token", "--jws", "--jwks", jwks)).decode()
    for part in (
        "good",
        thumbprint(PUBLIC),
        "header typ",
        "JWT",
        "claim sub",
        "alice",
        "1970-01-01 00:00:01 UTC, expired",
    ):
        assert part in printed
    answer = json.loads(_printed(_run("verify", tmp_path / "token", "--jws", "--jwks", jwks, "--json")))
    assert (answer["good"], answer["header"], answer["claims"]) == (True, header, {"sub": "alice", "exp": 1})
    assert (answer["kid"], base64.b64decode(answer["public_b64"])) == (thumbprint(PUBLIC), PUBLIC)
    printed = _printed(_run("verify", "--jws", "--jwks", jwks, given=_token(header, b"\x00bytes").encode())).decode()
    assert "6 bytes, AGJ5dGVz" in printed


def test_what_a_token_says_is_not_obeyed_by_the_terminal(jwks: Path) -> None:
    payload = json.dumps({"sub": "\x1b[31mred[/] [bold]", "\x07": 1}).encode()
    token = _token({"alg": "Ed25519", "kid": thumbprint(PUBLIC)}, payload)
    printed = _printed(_run("verify", "--jws", "--jwks", jwks, given=token.encode()))
    assert b"\x1b[31m" not in printed
    assert b"\x07" not in printed
    assert rb"\u001b[31mred[/] [bold]" in printed


KID = thumbprint(PUBLIC)
GOOD = _token({"alg": "EdDSA", "kid": KID})


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (GOOD[:-4] + ("AAAA" if GOOD[-4:] != "AAAA" else "BBBB"), "does not verify"),
        (GOOD.replace(".", ".A", 1), "does not verify"),
        (GOOD.replace(".", ".~", 1), "not a compact JWS"),
        (_token({"alg": "EdDSA", "kid": KID}, key=Ed25519PrivateKey.generate()), "does not verify"),
        (_token({"alg": "none", "kid": KID}), 'alg is "none"'),
        (_token({"alg": "HS256", "kid": KID}), 'alg is "HS256"'),
        (_token({"kid": KID}), "alg is null"),
        (_token({"alg": "EdDSA"}), "the header has no kid"),
        (_token({"alg": "EdDSA", "kid": 5}), "kid is 5, not text"),
        (_token({"alg": "EdDSA", "kid": None}), "kid is null, not text"),
        (_token({"alg": "EdDSA", "kid": KID, "b64": False}), "the header has b64"),
        (_token({"alg": "EdDSA", "kid": KID, "b64": True}), "the header has b64"),
        (_token({"alg": "EdDSA", "kid": KID, "crit": []}), "crit"),
        (_token({"alg": "EdDSA", "kid": "else"}), 'kid is "else"'),
        (_token({"alg": "EdDSA", "kid": KID, "crit": ["b64"], "b64": False}), "crit"),
        (_token([1]), "not a compact JWS"),
        ("a.b", "not a compact JWS"),
        (GOOD.rpartition(".")[0], "2 parts with dots between them, not 3"),
        (GOOD + "=", "not a compact JWS"),
        (GOOD + ".x", "not a compact JWS"),
    ],
)
def test_a_token_that_is_not_good(jwks: Path, token: str, said: str) -> None:
    done = _call("verify", "--jws", "--jwks", jwks, given=token.encode())
    assert (done.returncode, done.stderr) == (1, b""), done
    assert "NOT GOOD" in done.stdout.decode()
    assert said in done.stdout.decode()


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (b'{"a":NaN}', "invalid character"),
        (b'{"a":-Infinity}', "invalid character"),
        (b'{"a":1e999}', "out of range"),
        (b'{"sub":"alice","sub":"mallory"}', "the member 'sub' stands twice"),
        (b'{"a":{"b":1,"b":2}}', "the member 'b' stands twice"),
        (b'{"a":"\\ud800"}', "half of a surrogate pair"),
        (b'\xef\xbb\xbf{"sub":"alice"}', "two ways"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "two ways"),
    ],
)
def test_claims_with_two_readings_are_not_good(jwks: Path, claims: bytes, said: str) -> None:
    token = _token({"alg": "EdDSA", "kid": KID}, claims).encode()
    done = _call("verify", "--jws", "--jwks", jwks, "--json", given=token)
    assert (done.returncode, done.stderr) == (1, b""), done
    answer = json.loads(done.stdout)
    assert (answer["good"], answer["claims"], answer["kid"]) == (False, None, None)
    assert answer["fault"].startswith("the claims can be read in two ways: ")
    assert said in answer["fault"]


def test_a_payload_that_is_no_claims_is_good(jwks: Path) -> None:
    for payload in (b"{not json", b"[NaN]", b"\xff\xfe", b""):
        _printed(_call("verify", "--jws", "--jwks", jwks, given=_token({"alg": "EdDSA", "kid": KID}, payload).encode()))


def test_a_header_with_two_readings_is_not_good() -> None:
    for header in (b'{"alg":"EdDSA","alg":"none"}', b'{"alg":"EdDSA","a":1e999}', b'{"alg":"EdDSA","a":NaN}'):
        message = f"{b64url(header)}.{b64url(b'{}')}"
        token = f"{message}.{b64url(KEY.sign(message.encode()))}".encode()
        done = _call("verify", "--jws", "--public", base64.b64encode(PUBLIC).decode(), given=token)
        assert done.returncode == 1
        assert b"no JSON object with one reading" in done.stdout


def test_a_kid_names_the_key_also_where_there_is_one_alone() -> None:
    public = base64.b64encode(PUBLIC).decode()
    _printed(_call("verify", "--jws", "--public", public, given=GOOD.encode()))
    done = _call("verify", "--jws", "--public", public, given=_token({"alg": "EdDSA", "kid": "other"}).encode())
    assert done.returncode == 1
    assert b"no key has that name" in done.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        {"kty": "EC"},
        {"crv": "Ed448"},
        {"use": "enc"},
        {"use": None},
        {"key_ops": ["sign"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"alg": "ES256"},
    ],
)
def test_a_key_for_something_else_verifies_nothing(tmp_path: Path, wrong: dict[str, object]) -> None:
    [own], others = jwk_set([PUBLIC])["keys"], jwk_set([OTHER])["keys"]
    (tmp_path / "jwks").write_text(json.dumps({"keys": [own | wrong]}))
    _refused(_call("verify", "--jws", "--jwks", tmp_path / "jwks", given=GOOD.encode()), "no Ed25519 key that may")
    (tmp_path / "jwks").write_text(json.dumps({"keys": [own | wrong, *others]}))
    done = _call("verify", "--jws", "--jwks", tmp_path / "jwks", given=GOOD.encode())
    assert done.returncode == 1
    assert b"no key has that name" in done.stdout


def test_a_key_that_says_it_verifies_is_taken(tmp_path: Path) -> None:
    [own] = jwk_set([PUBLIC])["keys"]
    for more in ({"key_ops": ["verify"]}, {"alg": "EdDSA"}, {"alg": "Ed25519"}, {"key_ops": ["sign", "verify"]}):
        (tmp_path / "jwks").write_text(json.dumps({"keys": [own | more]}))
        _printed(_call("verify", "--jws", "--jwks", tmp_path / "jwks", given=GOOD.encode()))


def test_a_key_set_with_a_private_key_is_refused_with_a_warning(tmp_path: Path) -> None:
    [own] = jwk_set([PUBLIC])["keys"]
    secret = b64url(KEY.private_bytes_raw())
    for keys in ([own | {"d": secret}], [own, {"kty": "RSA", "n": "AQAB", "d": secret}]):
        (tmp_path / "jwks").write_text(json.dumps({"keys": keys}))
        done = _call("verify", "--jws", "--jwks", tmp_path / "jwks", given=GOOD.encode())
        _refused(done, "has a private key in it (the member d)")
        assert secret not in done.stderr.decode()


@pytest.mark.parametrize(
    "point",
    [
        bytes([1]) + bytes(31),
        bytes(32),
        b"\xec" + b"\xff" * 30 + b"\x7f",
        b"\xed" + b"\xff" * 30 + b"\x7f",
        b"\xff" * 32,
    ],
    ids=["identity", "order 4", "order 2", "not canonical", "none"],
)
def test_a_point_under_which_a_signature_proves_nothing_is_no_key(tmp_path: Path, point: bytes) -> None:
    forged = base64.b64encode(bytes([1]) + bytes(63)).decode()
    public = base64.b64encode(point).decode()
    _refused(_call("verify", "--public", public, "--signature", forged, given=b"x"), "--public: is no public key that")
    (tmp_path / "jwks").write_text(json.dumps(jwk_set([PUBLIC, point])))
    _refused(
        _call("verify", "--jws", "--jwks", tmp_path / "jwks", given=GOOD.encode()), "--jwks: is no public key that"
    )


def test_a_minus_is_standard_input(cluster: ProcessCluster) -> None:
    signature = _printed(_call("sign", "-", "--socket", cluster.socket, given=MESSAGE)).decode().strip()
    public = base64.b64encode(cluster.dealt.group_public).decode()
    _printed(_call("verify", "-", "--public", public, "--signature", signature, given=MESSAGE))


VERIFY = ["verify", "--jws", "--public", base64.b64encode(PUBLIC).decode()]


def _shell(line: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """The command line in ``line``, as ``"$@"``, with the redirections of a shell."""
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", "frost_sidecar", *map(str, arguments)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"},
        check=False,
    )


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize("good", [1, 0])
def test_output_that_nobody_can_read_is_no_verdict(tmp_path: Path, as_json: list[str], good: int) -> None:
    (tmp_path / "token").write_text(GOOD if good else GOOD.replace(".", ".A", 1))
    _refused(_shell('"$@" > /dev/full', *VERIFY, tmp_path / "token", *as_json), "No space left on device")
    gone = _shell('"$@" | true; exit ${PIPESTATUS[0]}', *VERIFY, tmp_path / "token", *as_json)
    while gone.returncode == (0 if good else 1):  # true had not ended yet when the verdict was written
        gone = _shell('"$@" | true; exit ${PIPESTATUS[0]}', *VERIFY, tmp_path / "token", *as_json)
    assert (gone.returncode, gone.stdout, gone.stderr) == (141, b"", b"")


def test_a_closed_standard_input_is_no_verdict() -> None:
    _refused(_shell('"$@" <&-', *VERIFY), "standard input: is closed")
    _refused(_shell('"$@" <&-', "sign", "--socket", "/s"), "standard input: is closed")


def test_a_closed_standard_error_does_not_change_the_status() -> None:
    done = _shell('"$@" 2>&-', "verify", "--public", "AAAA")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def test_a_defect_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ExceptionGroup("tasks", [RuntimeError("two\nlines \x1b[31m")])

    monkeypatch.setattr(sys.modules["frost_sidecar.cli.verify"], "check_jws", broken)
    _refused(_call(*VERIFY, given=b"x"), r"unexpected RuntimeError: two\nlines \u001b[31m; this is a defect")


def test_a_file_name_does_not_steer_the_terminal(tmp_path: Path) -> None:
    for name in ("\x1b]0;title\x07", "a\nb", "[/bold]", "\u202e", os.fsdecode(b"\xff")):
        for command in (["sign", "--socket", "/s"], VERIFY):
            done = _call(*command, tmp_path / name)
            _refused(done, "cannot read it: No such file")
            assert all(each.isprintable() for each in done.stderr.decode().removesuffix("\n"))


def test_one_key_alone_needs_no_kid() -> None:
    public = base64.b64encode(PUBLIC).decode()
    _printed(_call("verify", "--jws", "--public", public, given=_token({"alg": "EdDSA"}).encode()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say by one of --public, --group and --jwks"),
        (["--public", "AAAA", "--group", "g"], "say by one of --public, --group and --jwks"),
        (["--public", "AAAA"], "--public: must be 32 bytes, not 3"),
        (["--public", "~"], "--public: not base64"),
        (["--group", "/nonexistent"], "--group: cannot read the group file /nonexistent"),
        (["--jwks", "/nonexistent"], "/nonexistent: cannot read it: No such file"),
        (["--jwks", "/dev/null"], "--jwks: /dev/null is not JSON"),
        (["--public", base64.b64encode(PUBLIC).decode()], "needs its signature"),
        (["--public", base64.b64encode(PUBLIC).decode(), "--signature", "AAAA"], "--signature: must be 64 bytes"),
        (
            ["--public", base64.b64encode(PUBLIC).decode(), "--signature-file", "/dev/null"],
            "/dev/null: must be 64 bytes",
        ),
        (["--public", base64.b64encode(PUBLIC).decode(), "--jws", "--signature", "AA"], "leave --signature out"),
        (["--public", base64.b64encode(PUBLIC).decode(), "--jws", "/dev/null"], "/dev/null: there is no token in it"),
    ],
)
def test_where_nothing_can_be_judged(arguments: list[str], said: str) -> None:
    _refused(_call("verify", *arguments, given=b"message"), said)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"keys": [1]}',
        '{"keys": [{"crv": "Ed25519", "kty": "OKP", "x": "AA"}]}',
        '{"keys": []}',
        '{"keys": [{"kty": "RSA"}]}',
        '{"keys": [{"crv": "Ed25519"}]}',
        "[]",
    ],
)
def test_a_key_set_without_a_key(tmp_path: Path, text: str) -> None:
    (tmp_path / "jwks").write_text(text)
    _refused(_call("verify", "--jws", "--jwks", tmp_path / "jwks", given=GOOD.encode()), "--jwks")
