"""Errors as answers: JSON, with a sentence, and all mistakes where there are several."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vrseg.address import presentable
from vrseg.difference import ConflictError
from vrseg.errors import ConfigError, ModelError, VrsegError
from vrseg.fleet import BusyError, NoSuchStreamError

if TYPE_CHECKING:
    from vrseg.errors import Finding
    from vrseg.server.route import Handler

STATUS: dict[type[VrsegError], int] = {
    NoSuchStreamError: 404,
    BusyError: 409,
    ConflictError: 409,
    ConfigError: 422,
    ModelError: 422,
}
"""The first that fits counts."""


def refusal(status: int, error: str, findings: tuple[Finding, ...] = ()) -> web.Response:
    """Return the answer to a request that was refused."""
    problems = [{"message": presentable(one.text), "path": one.path, "line": _line(one.where)} for one in findings]
    return web.json_response({"error": presentable(error), "problems": problems}, status=status)


def refused(error: VrsegError) -> web.Response:
    """Return the answer that an error of ours stands for."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    findings = error.findings if isinstance(error, ConfigError) else ()
    if len(findings) > 1 or any(one.path for one in findings):
        count = "1 mistake" if len(findings) == 1 else f"{len(findings)} mistakes"
        return refusal(status, f"{count}; nothing was changed", findings)
    return refusal(status, str(error))


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors, aiohttp's own too, in the one form that the document names."""
    try:
        return await handler(request)
    except VrsegError as error:
        return refused(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        # Ours have a sentence as text, aiohttp's begin with the number.
        text = error.text or ""
        answer = refusal(error.status, error.reason if text.startswith(str(error.status)) else text or error.reason)
        kept = {
            key: value for key, value in error.headers.items() if key in ("Allow", "WWW-Authenticate", "Retry-After")
        }
        answer.headers.update(kept)
        return answer


def _line(where: str) -> int | None:
    line = where.rpartition(":")[2]
    return int(line) if line.isdecimal() else None


def as_json(text: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none, or nests too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
