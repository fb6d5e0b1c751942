"""Threads for calls that may hang, such as the system's look-up of names, and that must not hold up the end."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class DetachedThreads(ThreadPoolExecutor):
    """An event loop's executor that gives each call a daemon thread. A pool's threads are waited for at exit.

    It inherits from the pool only because an event loop takes nothing else.
    """

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R] = Future()
        call = partial(fn, *args, **kwargs)
        threading.Thread(target=_run, args=(future, call), name="outlet.call", daemon=True).start()
        return future


def _run(future: Future[R], call: Callable[[], R]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 -- it is raised again where the caller waits
        future.set_exception(error)
    finally:
        del future  # error, traceback, this frame and the future would keep each other, and with them a socket
