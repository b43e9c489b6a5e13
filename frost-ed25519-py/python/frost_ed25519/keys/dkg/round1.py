"""What passes between part 1 and part 2."""

from frost_ed25519._native import Round1Package as Package
from frost_ed25519._native import Round1SecretPackage as SecretPackage

__all__ = ["Package", "SecretPackage"]
