"""What a service manager tells by the environment: where to report to, and how often."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """Where and how often a service manager wants to hear of this process."""

    address: str
    """Of a Unix datagram socket, as Python's `socket` takes it: a path, or an abstract name behind a zero byte."""
    watchdog_s: float = 0.0
    """It kills the process after so long without a sign of life; 0: never."""


def notify_settings(environment: Mapping[str, str] = os.environ) -> NotifySettings | None:
    """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; None where nobody listens.

    Raises:
        ConfigError: they are not as sd_notify(3) and sd_watchdog_enabled(3) have them.
    """
    socket_name = environment.get("NOTIFY_SOCKET")
    if not socket_name:
        return None
    if not socket_name.startswith(("/", "@")) or len(socket_name) == 1:
        raise ConfigError(f"NOTIFY_SOCKET={socket_name}: only a path or @NAME can be told; unset it")
    address = "\0" + socket_name[1:] if socket_name.startswith("@") else socket_name
    return NotifySettings(address=address, watchdog_s=_watchdog_s(environment))


def _watchdog_s(environment: Mapping[str, str]) -> float:
    interval = environment.get("WATCHDOG_USEC")
    if not interval or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0  # none, or it is meant for another process, which started this one
    if not interval.isdecimal() or int(interval) == 0:
        raise ConfigError(f"WATCHDOG_USEC={interval}: not a number of microseconds; set WatchdogSec= in the unit")
    return int(interval) / 1e6
