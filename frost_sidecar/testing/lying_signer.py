"""A signer node that lies: right in every formality, wrong in every signature share.

``python -m frost_sidecar.testing.lying_signer --config signer.toml`` runs it as a process in a signer's place.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
from collections.abc import Mapping

import anyio
import msgspec

from frost_sidecar import logs
from frost_sidecar.encoding import b64encode
from frost_sidecar.signer import NodeConfig, SignerNode, serve
from frost_sidecar.signer.reading import Reading
from frost_sidecar.wire import SharesAnswer, SharesRequest


class LyingNode(SignerNode):
    """Answers each session with a random scalar instead of its share."""

    def shares(self, client: str, request: SharesRequest, judged: Mapping[str, Reading] | None = None) -> SharesAnswer:
        """The honest answer with every share replaced."""
        answer = super().shares(client, request, judged)
        return msgspec.structs.replace(
            answer,
            results=[
                msgspec.structs.replace(result, share=random_scalar()) if result.share is not None else result
                for result in answer.results
            ],
        )


def random_scalar() -> str:
    """A canonical scalar, base64, that is no share of anybody: 31 random bytes are below the group order."""
    return b64encode(secrets.token_bytes(31) + b"\0")


async def _run(config: NodeConfig) -> None:
    with anyio.CancelScope() as scope:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, scope.cancel)
        await serve(config, node_factory=LyingNode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    settings = NodeConfig.load(parser.parse_args().config)
    logs.configure(settings.log.level)
    anyio.run(_run, settings)
