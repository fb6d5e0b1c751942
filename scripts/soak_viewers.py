"""Viewers that no server likes: slow ones, and those that vanish."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp
from soak_site import SurpriseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_SMALL_BUFFER_BYTES = 4096
_SIP_BYTES = 256
_SIP_EVERY_S = 0.5
# On, and for 0 s: closing resets the connection instead of ending it.
_NO_LINGER = struct.pack("ii", 1, 0)
_URI = re.compile(r'(?:URI="|^)([\w.-]+\.(?:m4s|mp4))', re.MULTILINE)
# Streams come and go while somebody watches; only a failure of the server itself is none of these.
_ORDINARY = frozenset({200, 400, 404, 503})


async def watch_slowly(host: str, port: int, path: str, lasts_s: float) -> None:
    """Ask for moving pictures and hardly take them."""
    async with _asked(host, port, path) as connection:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + lasts_s
        while loop.time() < end_s:
            await loop.sock_recv(connection, _SIP_BYTES)
            await asyncio.sleep(_SIP_EVERY_S)


async def watch_and_vanish(host: str, port: int, path: str, lasts_s: float) -> None:
    """Take what comes, then be gone without a word."""
    async with _asked(host, port, path) as connection:
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(lasts_s):
                while await loop.sock_recv(connection, 2**16):
                    pass
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


async def play(get: Callable[[str], Awaitable[tuple[int, Any]]], folder: str, lasts_s: float) -> None:
    """Read a playlist and what it names, again and again, then vanish in the middle of a request.

    Raises:
        SurpriseError: the server failed.
    """

    async def fetch(name: str) -> str:
        status, answer = await get(folder + name)
        if status not in _ORDINARY:
            raise SurpriseError(f"GET {folder}{name}: {status}")
        return str(answer) if status == 200 else ""

    try:
        async with asyncio.timeout(lasts_s):
            while True:
                names = _URI.findall(await fetch("index.m3u8"))
                for name in names[-3:]:
                    await fetch(name)
                await asyncio.sleep(_SIP_EVERY_S)
    except (TimeoutError, aiohttp.ServerDisconnectedError):
        return


@asynccontextmanager
async def _asked(host: str, port: int, path: str) -> AsyncIterator[socket.socket]:
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
        await loop.sock_connect(connection, (host, port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        with suppress(ConnectionError):  # whose stream was taken away is cut off, as it should be
            yield connection
