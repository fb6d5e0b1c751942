"""A video output that outlives its receiver and its disk."""

from __future__ import annotations

import errno
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Never, Protocol, TypeAlias

from vrseg.backoff import Backoff
from vrseg.errors import ConfigError, MediaError, TransientError, VrsegError
from vrseg.stage import OutputState, VideoSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vrseg.frame import EncodedPacket
    from vrseg.stage import OutputStateName

DropReason: TypeAlias = Literal["disk", "unwritable", "reconnecting", "slow"]

# Longer waits spare nobody: a try costs one short process, or one file that cannot be made.
BACKOFF = Backoff(initial_s=0.5, max_s=10.0, jitter=0.2)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class OutputLife(VideoSink, Protocol):
    """One life of an output: one connection, or files from one fault to the next."""

    @property
    def up(self) -> bool:
        """What it was given has reached whom it is for."""

    def ready(self) -> bool:
        """Tell whether it can take a packet now, without waiting.

        Raises:
            TransientError: it is lost.
        """

    def suspend(self) -> None:
        """Complete what is there; another life goes on with it."""


class LastingSink:
    """Stage[EncodedPacket, Never] and `LastingOutput`: one outlet after the other, for as long as the stream lives.

    What comes while there is none, or while it is behind, is dropped and counted. A new outlet begins at a key frame.

    Args:
        make: constructs an outlet.
        name: the output's number in the configuration.
        kind: what kind of output it is.
        hindrance: tells in one line why nothing may be written now; None when something may.
        housekeeping: what is due whether packets come or not.
        backoff: waits between tries.
        waits: False where no packet may be lost (sources that are no live ones): then every error is raised.

    Raises:
        ConfigError: from `open`: nothing can ever be written there.
        VrsegError: whatever an outlet raises, unless `waits`.
    """

    def __init__(
        self,
        make: Callable[[], OutputLife],
        *,
        name: str,
        kind: str,
        hindrance: Callable[[], str | None] = lambda: None,
        housekeeping: Callable[[], None] = lambda: None,
        backoff: Backoff = BACKOFF,
        waits: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.state = OutputState(since_s=time.time())
        self.dropped: Counter[str] = Counter()
        self._make = make
        self._hindrance = hindrance
        self.keep_house = housekeeping
        self._backoff = backoff
        self._waits = waits
        self._outlet: OutputLife | None = None
        self._delays_s = backoff.delays_s()
        self._next_try_s = float("-inf")
        self._needs_key = True
        self._wish = False

    def open(self) -> None:
        if not self._hindered():
            self._begin(first=True)

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        if self._hindered():
            self._drop("disk")
        elif not self._offer(packet):
            self._drop(self._reason())
        return ()

    def flush(self) -> Iterable[Never]:
        outlet = self._outlet
        try:
            if outlet is not None:
                outlet.flush()
        except VrsegError as error:
            self._lost(error)
        return ()

    def close(self) -> None:
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            outlet.close()

    def take_key_wish(self) -> bool:
        wish, self._wish = self._wish, False
        return wish

    def _hindered(self) -> bool:
        detail = self._hindrance()
        if detail is None:
            return False
        if not self._waits:
            raise MediaError(detail)
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            with suppress(VrsegError):  # the disk is nearly full: that is said already
                outlet.suspend()
            outlet.close()
        self._next_try_s = float("-inf")  # as soon as there is room
        self._tell("paused", "disk", detail)
        return True

    def _offer(self, packet: EncodedPacket) -> bool:
        """Hand the packet on if that can be; tell whether it was taken."""
        if self._outlet is None and not (time.monotonic() >= self._next_try_s and self._begin()):
            return False
        outlet = self._outlet
        assert outlet is not None  # noqa: S101 -- `_begin` has made it
        try:
            if self._waits and not outlet.ready():
                self._needs_key = True
                return False
            self._note_up(outlet)
            if self._needs_key and not packet.key:
                return False
            outlet.process(packet)
        except VrsegError as error:
            self._lost(error)
            return False
        self._needs_key = False
        self._note_up(outlet)
        return True

    def _begin(self, *, first: bool = False) -> bool:
        """Open a new outlet; tell whether that worked."""
        outlet = self._outlet = self._make()
        self._needs_key = True
        self._wish = not first
        try:
            outlet.open()
        except VrsegError as error:
            if first and isinstance(error, ConfigError) and not _is_full(error):
                self.close()
                raise
            self._lost(error)
            return False
        return True

    def _note_up(self, outlet: OutputLife) -> None:
        if outlet.up and self.state.state != "up":
            self._delays_s = self._backoff.delays_s()
            # What waited for the connection may be a key frame that is old by now; the next should be soon.
            self._wish = self._needs_key
            self._tell("up")

    def _lost(self, error: VrsegError) -> None:
        self.close()
        if not self._waits:
            raise error
        delay_s = next(self._delays_s)
        self._next_try_s = time.monotonic() + delay_s
        detail = f"{error}; next try in {delay_s:.1f} s"
        if isinstance(error, TransientError):
            self._tell("reconnecting", "lost", detail)
        else:
            self._tell("paused", "disk" if _is_full(error) else "unwritable", detail)

    def _reason(self) -> DropReason:
        if self.state.state == "paused":
            return "disk" if self.state.reason == "disk" else "unwritable"
        return "slow" if self.state.state == "up" else "reconnecting"

    def _drop(self, reason: DropReason) -> None:
        self.dropped[reason] += 1

    def _tell(self, state: OutputStateName, reason: str = "", detail: str = "") -> None:
        """Note the state; the time is that of its beginning, however often its detail changes."""
        before = self.state
        same = (before.state, before.reason) == (state, reason)
        self.state = OutputState(
            state=state, reason=reason, detail=detail, since_s=before.since_s if same else time.time()
        )


def _is_full(error: VrsegError) -> bool:
    return getattr(error.__cause__, "errno", None) in _FULL
