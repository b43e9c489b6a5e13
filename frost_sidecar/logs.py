"""Structured logging that leaves the host application's own logging alone.

The library logs through the standard :mod:`logging` under ``frost_sidecar.*`` with the fields as ``extra``; only the
command line configures handlers.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from frost_sidecar.errors import ConfigError

_LEVELS = {"trace": "DEBUG", "warn": "WARNING", "off": "CRITICAL"}
"""Names that ``RUST_LOG`` knows and :mod:`logging` does not."""


logging.getLogger("frost_sidecar").addHandler(logging.NullHandler())


def get_logger(name: str) -> Any:
    """A structlog logger bound to the standard logger ``name``."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )


def configure(level: str) -> None:
    """Write one JSON object a line to standard error. ``level`` is a :mod:`logging` name in any case, or RUST_LOG's.

    Raises:
        ConfigError: neither knows the level.
    """
    name = _LEVELS.get(level.lower(), level.upper())
    if name not in logging.getLevelNamesMapping():
        raise ConfigError(f"unknown level {level!r}; use debug, info, warning or error", path="log.level")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(name)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
