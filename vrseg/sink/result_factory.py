"""Outputs of results of the configuration: as sinks of frames, and as outlets of events."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vrseg.address import local_path, redact, scheme_of
from vrseg.errors import ConfigError
from vrseg.sink.event_file import EventFile
from vrseg.sink.line_file import Rotation
from vrseg.sink.mqtt import Mqtt, check_installed, read_broker
from vrseg.sink.outlet import Outlet
from vrseg.sink.results import JsonLinesSink
from vrseg.sink.webhook import Webhook

if TYPE_CHECKING:
    import structlog

    from vrseg.config.schema import ResultOutput
    from vrseg.sink.discovery import Subject
    from vrseg.sink.results import ResultRecords

_MQTT = frozenset({"mqtt", "mqtts"})
_HTTP = frozenset({"http", "https"})


def content_of(output: ResultOutput) -> Literal["frames", "events"]:
    """Tell what an output of results holds: what `auto` means depends on where it goes."""
    if output.content != "auto":
        return output.content
    return "events" if _is_remote(output) else "frames"


def check_result_output(output: ResultOutput) -> None:
    """Find out whether results can go there, without going there.

    Raises:
        ConfigError: an address that results cannot go to, or a library that is missing.
    """
    scheme = output.uri.partition("://")[0].lower()
    if scheme in _MQTT:
        check_installed()
        try:
            read_broker(output.uri)
        except ValueError as error:
            raise ConfigError(f"{redact(output.uri)}: {error}") from error
    elif scheme not in _HTTP:
        _file_of(output, Path())


def make_result_sink(
    output: ResultOutput, base_dir: Path, records: ResultRecords, *, whole: bool = False
) -> JsonLinesSink:
    """Make the sink of one output of frames to a file or to standard output.

    Args:
        output: of the configuration.
        base_dir: relative paths start here.
        records: what is said of a frame.
        whole: True for jobs: the file appears only when it is complete.

    Raises:
        ConfigError: neither `-` nor a file that ends in .jsonl.
    """
    return JsonLinesSink(_file_of(output, base_dir), records, whole=whole, rotation=_rotation(output))


def make_outlet(
    output: ResultOutput, subject: Subject, base_dir: Path, spool_dir: Path, log: structlog.stdlib.BoundLogger
) -> Outlet | None:
    """Make the outlet of one output of results, or None where its frames go to a file: `make_result_sink` does that.

    Args:
        output: of the configuration.
        subject: what there is to tell; its base is taken from the address, where that has one.
        base_dir: relative paths start here.
        spool_dir: where events wait.
        log: is told of receivers that are lost and found.

    Raises:
        ConfigError: see `check_result_output`.
    """
    check_result_output(output)
    scheme = output.uri.partition("://")[0].lower()
    address = redact(output.uri)
    spool = spool_dir / f"{subject.stream}-{hashlib.sha256(address.encode()).hexdigest()[:12]}.sqlite"
    name = f"{subject.stream}.outlet"
    if scheme in _MQTT:
        broker = read_broker(output.uri)
        mqtt = Mqtt(
            broker,
            replace(subject, base=broker.topic or subject.base),
            content=content_of(output),
            announce=output.discovery,
            spool=spool,
            spool_bytes=output.spool,
            log=log,
        )
        return Outlet(mqtt, log, name=name, kind="mqtt")
    if scheme in _HTTP:
        webhook = Webhook(
            subject.stream, output.uri, spool=spool, spool_bytes=output.spool, secret=output.secret, log=log
        )
        return Outlet(webhook, log, name=name, kind="webhook")
    if content_of(output) == "frames":
        return None
    path = _file_of(output, base_dir)
    return Outlet(EventFile(subject.stream, path, _rotation(output), log), log, name=name, kind="file")


def _is_remote(output: ResultOutput) -> bool:
    return output.uri.partition("://")[0].lower() in _MQTT | _HTTP


def _file_of(output: ResultOutput, base_dir: Path) -> Path | None:
    path = None if output.uri == "-" else base_dir / local_path(output.uri)
    if path is not None and (scheme_of(output.uri) != "file" or path.suffix.lower() != ".jsonl"):
        raise ConfigError(
            f"{redact(output.uri)}: results go to a .jsonl file, to - (standard output), mqtt://, mqtts://, http:// or "
            "https://"
        )
    return path


def _rotation(output: ResultOutput) -> Rotation | None:
    return None if output.rotate is None else Rotation(max_bytes=output.rotate, backups=output.backups)
