"""Gets the peers, each into an environment of its own under ``.cache/bench``, where ``make clean`` removes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from bench.contestants import PEERS, Contestant, LiteLLM, Nginx, Portkey

#: Told what goes on.
Tell = Callable[[str], None]


def install(tell: Tell) -> None:
    """Install whoever is missing. Who cannot be had is told and takes no part."""
    PEERS.mkdir(parents=True, exist_ok=True)
    for contestant, commands in ((LiteLLM(), _litellm()), (Portkey(), _portkey()), (Nginx(), _nginx())):
        if contestant.version() is None:
            _install(contestant, commands, tell)


def _install(contestant: Contestant, commands: Sequence[Sequence[str]] | str, tell: Tell) -> None:
    if isinstance(commands, str):
        tell(f"{contestant.name} takes no part: {commands}")
        return
    tell(f"installing {contestant.name}")
    for command in commands:
        done = subprocess.run(  # noqa: S603  # A list of our own making.
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            tell(f"{contestant.name} takes no part: “{' '.join(command)}” failed: {done.stdout[-300:].strip()}")
            return


def _litellm() -> Sequence[Sequence[str]]:
    place = PEERS / "litellm"
    return (
        [sys.executable, "-m", "venv", str(place)],
        [str(place / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"],
    )


def _portkey() -> Sequence[Sequence[str]] | str:
    npm = shutil.which("npm")
    if npm is None:
        return "it needs Node and npm"
    place = str(PEERS / "portkey")
    return ([npm, "install", "--prefix", place, "--ignore-scripts", "--loglevel=error", "@portkey-ai/gateway"],)


def _nginx() -> Sequence[Sequence[str]] | str:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return "nginx is not installed, and only root on Debian or Ubuntu can install it here: apt install nginx-light"
    return ([apt, "install", "-y", "--no-install-recommends", "nginx-light"],)
