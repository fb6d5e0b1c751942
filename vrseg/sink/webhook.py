"""Events to an HTTP receiver: batches of JSON, signed, and sent again until they are taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import aiohttp

from vrseg.address import redact
from vrseg.sink.spooled import GRACE_S, PATIENCE, SpooledLetters
from vrseg.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    import structlog

    from vrseg.sink.outlet import Mailbox
    from vrseg.sink.spool import Letter

BATCH_EVENTS = 100
BATCH_BYTES = 1_000_000
TIMEOUT_S = 10.0
SIGNATURE_HEADER = "X-Vrseg-Signature"
# Besides 5xx: the receiver is not to blame the request for them. 3xx too: events go where the configuration says.
_TRY_AGAIN = frozenset({408, 425, 429})
_LONGEST_RETRY_AFTER_S = 3600.0


class Webhook:
    """A `Delivery`: `POST {"events": [...]}`, in order, at least once.

    What fails with a network error, 5xx, 3xx, 408, 425 or 429 (whose `Retry-After` is kept to) is tried again for as
    long as the spool has room; what is refused with another 4xx is dropped and counted as `refused`, since it would be
    again. With a secret, each request has `X-Vrseg-Signature: t=<Unix time>,v1=<HMAC-SHA256 of "<t>." and the body>`.

    Args:
        stream: which the events are of.
        uri: http:// or https://; a user name and password in it are sent as Basic authorization.
        spool: file for events that wait; None keeps them in memory.
        spool_bytes: how large it may grow.
        secret: signs requests.
        log: is told when the receiver is lost and found.
    """

    def __init__(
        self,
        stream: str,
        uri: str,
        *,
        spool: Path | None,
        spool_bytes: int,
        secret: str | None,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._uri = uri
        self._secret = secret
        self._forget = False
        self._log = log.bind(stream=stream, receiver=_host_of(uri))
        self._letters = SpooledLetters(stream, spool, spool_bytes, self.counts, self._log)

    @property
    def waiting(self) -> int:
        return len(self._letters)

    async def run(self, mailbox: Mailbox) -> None:
        self._letters.open()
        try:
            async with asyncio.TaskGroup() as group:  # should the one fail, so does the other
                delivering = group.create_task(self._deliver())
                while records := await mailbox.take():
                    self._letters.add(records)
                self._letters.end()
                await asyncio.wait([delivering], timeout=GRACE_S)
                delivering.cancel()
        finally:
            self._letters.close(forget=self._forget)

    def forget(self) -> None:
        self._forget = True  # nothing is left with a receiver, but a file may be left here

    async def _deliver(self) -> None:
        limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
        headers = {"User-Agent": f"vrseg/{__version__}", "Content-Type": "application/json"}
        async with aiohttp.ClientSession(timeout=limit, headers=headers, trust_env=False) as session:
            while True:
                await self._letters.news.wait()
                self._letters.news.clear()
                while batch := fitting(self._letters.oldest(BATCH_EVENTS)):
                    self._letters.done(batch, await self._send(session, batch))
                if self._letters.closing.is_set():
                    return

    async def _send(self, session: aiohttp.ClientSession, batch: list[Letter]) -> Literal["delivered", "refused"]:
        """Return once the batch is taken or refused."""
        body = b'{"events":[' + b",".join(letter.body for letter in batch) + b"]}"
        waits = PATIENCE.delays_s()
        lost = False
        while True:
            problem, retry_after_s = await self._post(session, body)
            if problem is None:
                if lost:
                    self._log.info("webhook works again")
                return "delivered"
            if retry_after_s is None:
                self._log.error("events dropped", reason="refused", count=len(batch), detail=problem)
                return "refused"
            if not lost:
                self._log.warning("webhook fails", detail=problem, next="events wait; it is tried again")
                lost = True
            await asyncio.sleep(max(next(waits), retry_after_s))

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> tuple[str | None, float | None]:
        """Return what is wrong, if anything is, and after how many seconds to try again at the earliest, if at all."""
        signed = {SIGNATURE_HEADER: signature(self._secret, body, int(time.time()))} if self._secret else {}
        try:
            async with session.post(self._uri, data=body, headers=signed, allow_redirects=False) as answer:
                status = answer.status
                retry_after_s = _retry_after_s(answer.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, OSError) as error:  # among them TimeoutError
            return _problem(error), 0.0
        if status < 300:
            return None, None
        if status in _TRY_AGAIN or status >= 500:
            return f"the receiver says {status}", retry_after_s
        if status < 400:
            return f"the receiver says {status}, and redirects are not followed; correct the address", PATIENCE.max_s
        return f"the receiver says {status}", None


def signature(secret: str, body: bytes, unix_s: int) -> str:
    """Sign a request: value of `X-Vrseg-Signature`. Receivers compute the same, and refuse what is old or differs."""
    code = hmac.new(secret.encode(), f"{unix_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={unix_s},v1={code}"


def fitting(letters: list[Letter]) -> list[Letter]:
    """Return the first letters that together are small enough for one request; at least one, if there is any."""
    sizes = accumulate(len(letter.body) for letter in letters)
    first = letters[:1]
    return first + [letter for letter, size in list(zip(letters, sizes, strict=True))[1:] if size <= BATCH_BYTES]


def _problem(error: Exception) -> str:
    """Say what is wrong, without the address: texts of aiohttp may hold it."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(error, aiohttp.InvalidURL):
        return "nothing can be sent to this address: correct it"
    if isinstance(error, aiohttp.ClientResponseError):
        first, _, _ = error.message.partition("\n")
        return f"what answers is no HTTP server: {first}"
    return redact(str(error)) or type(error).__name__


def _host_of(uri: str) -> str:
    """Show where an address leads: of many receivers the path is as secret as a password."""
    shown = redact(uri)
    try:
        parts = urlsplit(shown)
    except ValueError:
        return f"{shown.partition('://')[0]}://***"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _retry_after_s(value: str) -> float:
    """Read a `Retry-After`: seconds, or a date. What is neither is no demand."""
    try:
        asked_s = float(value) if value.strip().isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(asked_s, 0.0), _LONGEST_RETRY_AFTER_S)
