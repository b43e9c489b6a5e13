"""A signer node: holds one share of each key, makes nonces and signature shares, and trusts nobody.

It shares the protocol's messages with the coordinator and nothing else; docs/signer-protocol.md is the whole contract.
"""

from frost_sidecar.signer.config import NodeConfig
from frost_sidecar.signer.node import SignerNode
from frost_sidecar.signer.nonces import NonceStore
from frost_sidecar.signer.permission import Permissions
from frost_sidecar.signer.server import serve
from frost_sidecar.signer.service import SignerService

__all__ = ["NodeConfig", "NonceStore", "Permissions", "SignerNode", "SignerService", "serve"]
