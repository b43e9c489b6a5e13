"""What passes between part 2 and part 3."""

from frost_ed25519._native import Round2Package as Package
from frost_ed25519._native import Round2SecretPackage as SecretPackage

__all__ = ["Package", "SecretPackage"]
