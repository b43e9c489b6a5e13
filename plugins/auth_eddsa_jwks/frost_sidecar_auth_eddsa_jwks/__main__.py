"""``python -m frost_sidecar_auth_eddsa_jwks``: make a key file, and print the JWK set of key files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from frost_sidecar.errors import ConfigError
from frost_sidecar_auth_eddsa_jwks.jwk import ALGORITHMS, Algorithm
from frost_sidecar_auth_eddsa_jwks.keyfiles import KeyFiles
from frost_sidecar_auth_eddsa_jwks.private import parse_private
from frost_sidecar_auth_eddsa_jwks.schedule import Schedule

_RSA_BITS = 3072


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, or 2 where it could not do what it is for."""
    parser = argparse.ArgumentParser(prog="python -m frost_sidecar_auth_eddsa_jwks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    keygen = commands.add_parser("keygen", help="write a new private key (PEM, mode 0600) and print its kid")
    keygen.add_argument("file", type=Path, help="must not exist yet")
    jwks = commands.add_parser("jwks", help="print the public keys as a JWK set")
    jwks.add_argument("path", type=Path, help="a key file, or a folder of them as for key_dir")
    for command in (keygen, jwks):
        command.add_argument("--alg", choices=ALGORITHMS, default="EdDSA")
    keygen.set_defaults(run=lambda given: _keygen(given.file, given.alg))
    jwks.set_defaults(run=lambda given: _jwks(given.path, given.alg))
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(given.run(given) + "\n")
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _keygen(path: Path, alg: Algorithm) -> str:
    key = rsa.generate_private_key(65537, _RSA_BITS) if alg == "RS256" else Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return parse_private(pem, alg, str(path)).public.kid


def _jwks(path: Path, alg: Algorithm) -> str:
    keys = KeyFiles(path, alg, str(path), folder=path.is_dir()).read()
    schedule = Schedule().follow_up(keys, 0, publish_seconds=0, retired_seconds=0)
    return msgspec.json.format(msgspec.json.encode(schedule.jwks())).decode()


if __name__ == "__main__":
    sys.exit(main())
