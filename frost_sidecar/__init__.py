"""frost-sidecar: one Ed25519 signature from t of n FROST signers (RFC 9591); the key exists nowhere."""

from frost_sidecar.config import Config
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.model import Signed, SignRequest
from frost_sidecar.plugins import hookimpl

__all__ = ["Config", "Coordinator", "FrostSidecarError", "SignRequest", "Signed", "hookimpl"]
