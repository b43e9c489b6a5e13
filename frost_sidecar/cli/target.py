"""Where a command signs: one of three options, or the socket that the environment names."""

from __future__ import annotations

import typer

from frost_sidecar.errors import ConfigError


def target_of(context: typer.Context, socket: str | None, target: str | None, config: str | None) -> str:
    """The one target of the options. The socket of the environment counts only where no option names one.

    Raises:
        ConfigError: there is none, more than one, or an empty one.
    """
    source = context.get_parameter_source("socket")
    if source is not None and source.name == "ENVIRONMENT" and (target or config):
        socket = None
    for option, value in (("--socket", socket), ("--target", target), ("--config", config)):
        if value == "":
            raise ConfigError("is empty; is the variable set that it was made from?", path=option)
    given = [each for each in (socket and f"unix:{socket}", target, config) if each]
    if len(given) > 1:
        raise ConfigError("--socket, --target and --config each say where to sign; choose one")
    if not given:
        raise ConfigError("say where to sign: --socket, --target or --config, or set FROST_SIDECAR_SOCKET")
    return given[0]
