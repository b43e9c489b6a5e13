"""``python -m frost_sidecar`` is the command ``frost-sidecar``."""

from frost_sidecar.cli import main

main()
