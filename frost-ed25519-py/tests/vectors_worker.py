"""Recompute published vectors. Runs on the build with the feature `deterministic`.

Reads a vector from standard input, writes one of the same shape with every
value computed anew from the inputs alone.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from frost_ed25519 import Identifier, Signature, SigningKey, SigningPackage, aggregate, round2
from frost_ed25519.keys import KeyPackage, VerifiableSecretSharingCommitment, dkg
from frost_ed25519.round2 import SignatureShare

vectors: Any = importlib.import_module("frost_ed25519._native").vectors

Json = dict[str, Any]


def signing_share(holder: Any) -> str:
    """Read the secret out of the JSON form of whatever holds it."""
    share: str = json.loads(holder.to_json())["signing_share"]
    return share


def signing(vector: Json) -> Json:
    """Deal, commit, sign and aggregate with the randomness of a vector."""
    given = vector["group"]
    coefficients = [bytes.fromhex(text) for text in given["coefficients"]]
    key = SigningKey.deserialize(bytes.fromhex(given["signing_key"]))
    shares, public = vectors.split_with_coefficients(key, given["max_signers"], coefficients)
    packages = {int(who): KeyPackage.from_secret_share(share) for who, share in shares.items()}

    def commit(who: str) -> Any:
        signer = vector["signers"][who]
        return vectors.commit_with_randomness(
            packages[int(who)],
            bytes.fromhex(signer["hiding"]["randomness"]),
            bytes.fromhex(signer["binding"]["randomness"]),
        )

    committed = {who: commit(who) for who in vector["signers"]}
    commitments = {int(who): commitments for who, (_, commitments) in committed.items()}
    package = SigningPackage(commitments, bytes.fromhex(vector["message"]))
    factors = vectors.binding_factors(package, public.verifying_key)
    signers: Json = {}
    signature_shares: dict[int, SignatureShare] = {}
    for who, (nonces, own) in committed.items():
        # The nonces can be used once: one pair is shown, its twin signs.
        hiding, binding = vectors.reveal_nonces(commit(who)[0])
        share = round2.sign(package, nonces, packages[int(who)])
        signature_shares[int(who)] = share
        preimage, factor = factors[Identifier(int(who))]
        randomness = vector["signers"][who]
        signers[who] = {
            "hiding": {
                "randomness": randomness["hiding"]["randomness"],
                "nonce": hiding.hex(),
                "commitment": own.hiding.hex(),
            },
            "binding": {
                "randomness": randomness["binding"]["randomness"],
                "nonce": binding.hex(),
                "commitment": own.binding.hex(),
            },
            "binding_factor_input": preimage.hex(),
            "binding_factor": factor.hex(),
            "signature_share": share.serialize().hex(),
        }
    signature = aggregate(package, signature_shares, public)
    return {
        "title": vector["title"],
        "source": vector["source"],
        "group": {
            "max_signers": public.max_signers,
            "min_signers": public.min_signers,
            "signing_key": given["signing_key"],
            "verifying_key": public.verifying_key.serialize().hex(),
            "coefficients": given["coefficients"],
            "signing_shares": {str(int(who)): signing_share(s) for who, s in shares.items()},
        },
        "message": package.message.hex(),
        "signers": signers,
        "signature": signature.serialize().hex(),
    }


def generation(vector: Json) -> Json:
    """Go through the three parts with the polynomials of a vector.

    The nonces of the published proofs are not published. The participants send
    the published proofs, which part 2 verifies.
    """
    given = vector["participants"]
    broadcast = {
        who: dkg.round1.Package(
            VerifiableSecretSharingCommitment.deserialize(
                [bytes.fromhex(text) for text in participant["commitment"]]
            ),
            Signature.deserialize(bytes.fromhex(participant["proof_of_knowledge"])),
        )
        for who, participant in given.items()
    }
    others = {
        who: {int(other): package for other, package in broadcast.items() if other != who}
        for who in given
    }
    own, kept, sent = {}, {}, {}
    for who, participant in given.items():
        secret, own[who] = vectors.part1_with_secret(
            int(who),
            vector["max_signers"],
            bytes.fromhex(participant["signing_key"]),
            [bytes.fromhex(text) for text in participant["coefficients"]],
            bytes([1]) + bytes(31),
        )
        kept[who], sent[who] = dkg.part2(secret, others[who])
    participants: Json = {}
    for who, participant in given.items():
        received = {other: sent[other][Identifier(int(who))] for other in given if other != who}
        package, public = dkg.part3(
            kept[who], others[who], {int(other): p for other, p in received.items()}
        )
        participants[who] = {
            "signing_key": participant["signing_key"],
            "coefficients": participant["coefficients"],
            "commitment": [part.hex() for part in own[who].commitment.serialize()],
            "proof_of_knowledge": broadcast[who].proof_of_knowledge.serialize().hex(),
            "received": {other: signing_share(p) for other, p in received.items()},
            "signing_share": signing_share(package),
            "verifying_share": package.verifying_share.serialize().hex(),
        }
    return {
        "title": vector["title"],
        "source": vector["source"],
        "max_signers": public.max_signers,
        "min_signers": public.min_signers,
        "verifying_key": public.verifying_key.serialize().hex(),
        "participants": participants,
    }


if __name__ == "__main__":
    what = {"signing": signing, "generation": generation}[sys.argv[1]]
    json.dump(what(json.load(sys.stdin)), sys.stdout)
