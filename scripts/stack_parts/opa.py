"""Open Policy Agent, built from its Go module; it starts with no policy, each test brings its own."""

from __future__ import annotations

import shutil
import signal
import urllib.error
import urllib.request
from os import environ  # noqa: TID251 - this script runs before soar and its settings are installed

from .base import Part, call, say
from .process import Command, Daemon, StackError

VERSION = "1.22.2"
MODULE = "github.com/open-policy-agent/opa"


class Opa(Part):
    """One OPA server."""

    name = "opa"
    version = f"OPA {VERSION}"
    default_ports = (18181,)

    def __init__(self) -> None:
        super().__init__()
        self.daemon = Daemon(self.home, stop_signal=signal.SIGTERM)
        self.binary = self.home / VERSION / "opa"

    def get(self) -> None:
        """Build the pinned version; about two minutes, once."""
        if self.binary.exists():
            return
        if not shutil.which("go"):
            raise StackError("go is not installed, and OPA is built with it; install Go 1.25 or later and try again")
        say(self.name, f"building {self.version} (once, about two minutes)")
        draft = self.home / "build"
        call(["go", "install", f"{MODULE}@v{VERSION}"], env={"GOBIN": str(draft), "CGO_ENABLED": "0"})
        call([str(draft / "opa"), "version"])
        # The binary appears under its final name only when complete.
        self.binary.parent.mkdir(parents=True, exist_ok=True)
        (draft / "opa").replace(self.binary)

    def command(self) -> Command:
        """Serve on loopback, without the call home for newer versions."""
        listen = [f"--addr=127.0.0.1:{self.ports[0]}"]
        quiet = ["--disable-telemetry", "--log-level=error"]
        return Command(argv=[str(self.binary), "run", "--server", *listen, *quiet], env=dict(environ))

    def answers(self) -> bool:
        """GET /health, past any proxy."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"http://{self.address()}/health", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def environment(self) -> dict[str, str]:
        """The server's base URL, and the binary for `opa test` and `opa check`."""
        return {"SOAR_STACK_OPA": f"http://{self.address()}", "SOAR_STACK_OPA_BINARY": str(self.binary)}
