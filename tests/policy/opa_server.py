"""A real OPA server on a bundle, on loopback, ended by its own process id."""

import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(binary: Path, folder: Path, *options: str, port: int = 0, ca: Path | None = None) -> Iterator[str]:
    """Its address, once it is healthy with the bundle loaded; over TLS where its authority `ca` is named."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = [binary, "run", "--server", "--addr", f"127.0.0.1:{port}", "--log-level", "error"]
    command += ["--disable-telemetry", *options, "--bundle", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"{'https' if ca else 'http'}://127.0.0.1:{port}"
            _until_healthy(url, process, ssl.create_default_context(cafile=ca) if ca else None)
            yield url
        finally:
            process.terminate()


def _until_healthy(url: str, process: "subprocess.Popen[bytes]", context: ssl.SSLContext | None) -> None:
    for _ in range(200):
        assert process.poll() is None, "opa ended at once"
        try:
            with urllib.request.urlopen(f"{url}/health?bundles", timeout=5, context=context) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("opa is not healthy after 10 s")
