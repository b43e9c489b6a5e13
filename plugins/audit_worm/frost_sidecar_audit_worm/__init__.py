"""An audit log in one append-only file: hash-chained, and on disk before an answer leaves.

.. code-block:: toml

    [plugins.audit_worm]
    path = "audit.log"

Checking a log needs no running coordinator::

    from pathlib import Path

    from frost_sidecar_audit_worm import verify

    report = verify(Path("audit.log"))
    print(report.head if report.fault is None else report.fault)
"""

from __future__ import annotations

from frost_sidecar import hookimpl
from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import AuditSink, PluginContext
from frost_sidecar_audit_worm.chain import CorruptLogError, Fault, Head, Record
from frost_sidecar_audit_worm.reading import Report, read, resolve, verify
from frost_sidecar_audit_worm.settings import Settings
from frost_sidecar_audit_worm.sink import WormSink

__all__ = [
    "CorruptLogError",
    "Fault",
    "Head",
    "Record",
    "Report",
    "Settings",
    "WormSink",
    "make_audit_sink",
    "read",
    "verify",
]


@hookimpl
def make_audit_sink(context: PluginContext) -> AuditSink:
    """Build the sink; the log is opened, checked and locked when the sink is entered.

    Raises:
        ConfigError: a setting is wrong, or the log's folder does not exist.
    """
    path = context.path(context.settings(Settings).path)
    folder = resolve(path).parent
    if not folder.is_dir():
        raise ConfigError(
            f"the folder {folder} does not exist; create it, owned by the process's user and closed to others",
            path=f"plugins.{context.name}.path",
        )
    return WormSink(path)
