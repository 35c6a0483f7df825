"""What signals do to a server that runs: SIGINT and SIGTERM stop it, SIGHUP has it read its configuration anew."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from noa.background import Background
from noa.errors import AIProviderError
from noa.manager import ModelManager
from noa.server.http_server import HttpServer

logger = logging.getLogger(__name__)

#: The terminal that a process belongs to; whoever has none cannot open it.
TERMINAL: Final = "/dev/tty"


@contextmanager
def on_signals(server: HttpServer, manager: ModelManager) -> Iterator[None]:
    """Have signals do that as long as the block lasts."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        # No handlers can be set here; Ctrl-C cancels the main task, which ends everything just as well.
        yield
        return
    loop = asyncio.get_running_loop()
    stop = _stopper(server)
    handlers = {
        signal.SIGINT: stop,
        signal.SIGTERM: stop,
        signal.SIGHUP: hang_up(stop, _reloader(manager), outlives=signal.getsignal(signal.SIGHUP) is signal.SIG_IGN),
    }
    for number, handle in handlers.items():
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def hang_up(
    stop: Callable[[], None], reload: Callable[[], None], *, outlives: bool, terminal: str = TERMINAL
) -> Callable[[], None]:
    """What SIGHUP does. Somebody who sends it means a reload; but it also comes when the terminal has been closed.

    A server that was started from a terminal ends with it, as it did before anybody could reload, unless it was started
    to outlive it (``nohup``, which has the signal ignored).
    """
    had_terminal = _is_there(terminal)

    def handle() -> None:
        if had_terminal and not outlives and not _is_there(terminal):
            stop()
        else:
            reload()

    return handle


def _is_there(terminal: str) -> bool:
    try:
        os.close(os.open(terminal, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _stopper(server: HttpServer) -> Callable[[], None]:
    """What a signal does: the first stops, gracefully once the server runs; the second cuts what still goes on."""
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        again, server.should_exit = server.should_exit, True
        if again:
            server.force_exit = True
        if again or not server.started:
            task.cancel()

    return stop


def _reloader(manager: ModelManager) -> Callable[[], None]:
    background = Background()

    async def reload() -> None:
        try:
            report = await manager.reload()
        except AIProviderError as error:
            logger.error("the configuration stays as it was: %s", error.message)  # noqa: TRY400 - a sentence says it all
            return
        logger.info("the configuration was read anew")
        if report.needs_restart:
            logger.warning("until the next start, these stay as they were: %s", ", ".join(report.needs_restart))

    return lambda: background.spawn(reload())
