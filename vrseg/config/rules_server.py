"""What one key of `server` demands of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.config.allow import SYNTHETIC, NotAnAddressError, read_pattern
from vrseg.config.document import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vrseg.config.schema import Server


def server_problems(server: Server) -> Iterator[Problem]:
    """Yield mistakes of the certificate and of the addresses that may be named."""
    if server.key is not None and server.certificate is None:
        yield Problem(("server", "key"), "is of no use without `certificate`; name both, or neither")
    for index, pattern in enumerate(server.allow):
        path = ("server", "allow", index)
        if pattern.partition(":")[0] == SYNTHETIC:
            continue
        try:
            read_pattern(pattern)
        except NotAnAddressError as error:
            yield Problem(
                path, f"{error}; write such as rtsp://10.0.0.*, https://*.example.com:8443/cams/*, synthetic:*"
            )
