"""nginx in front of a daemon, set up as the README says and otherwise as it comes."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from plugins.media_servers import unused_port, wait_until_listening

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
_CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location {place} {{
            proxy_pass {upstream};
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"""


class ReverseProxy:
    """Shows what is at `upstream`, an address that ends in a slash, at `place` on a port of its own."""

    def __init__(self, folder: Path, upstream: str, place: str) -> None:
        assert _PROGRAM is not None, "nginx is not installed"
        port = unused_port()
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder, port=port, upstream=upstream, place=place), encoding="utf-8")
        self.address = f"http://127.0.0.1:{port}{place}"
        self._process = subprocess.Popen([_PROGRAM, "-p", folder, "-c", config])
        wait_until_listening(port)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
