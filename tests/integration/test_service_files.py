"""The files that run Noa as a service are taken by the programs they are for, where those are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def checked(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / "noa.service").read_text(encoding="utf-8")
    (tmp_path / "noa.service").write_text(unit.replace("/opt/noa/.venv/bin/noa", "/bin/true"))
    done = checked("systemd-analyze", "verify", str(tmp_path / "noa.service"))
    # What it does not understand it ignores, with a word about it.
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    lines = (DEPLOY / "nginx" / "noa.conf").read_text(encoding="utf-8").splitlines()
    # Here there is no certificate, and the port may be another's.
    server = "\n".join(line for line in lines if "ssl_certificate" not in line)
    server = server.replace("listen 443 ssl;", f"listen unix:{tmp_path}/nginx.sock;")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    here = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in kinds)
    outside = f"pid {tmp_path}/nginx.pid; error_log stderr; events {{}}"
    (tmp_path / "nginx.conf").write_text(f"{outside} http {{ access_log off; {here} {server} }}")
    done = checked("nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))
    assert done.returncode == 0, done.stderr
