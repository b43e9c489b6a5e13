"""frost-sidecar: one Ed25519 signature from t of n FROST signers (RFC 9591); the key exists nowhere."""

from frost_sidecar.blocking import BlockingCoordinator, SidecarClient
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.config import Config
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.mint import BlockingMint, Mint
from frost_sidecar.model import BatchItem, Signed, SignRequest
from frost_sidecar.plugins import hookimpl
from frost_sidecar.target import connect, connect_blocking

__all__ = [
    "AsyncSidecarClient",
    "BatchItem",
    "BlockingCoordinator",
    "BlockingMint",
    "Config",
    "Coordinator",
    "FrostSidecarError",
    "Mint",
    "SidecarClient",
    "SignRequest",
    "Signed",
    "connect",
    "connect_blocking",
    "hookimpl",
]
