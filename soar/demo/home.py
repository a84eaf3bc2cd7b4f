"""Makes a home: the folder with soar.yaml, starters and keys that `soar run` runs on."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from importlib import resources
from pathlib import Path

from soar.errors import ConfigError, Place
from soar.journal.note import Signer
from soar.service import starters

LAB_PORT = 8790


def make_home(
    folder: Path,
    *,
    lab_url: str = f"http://127.0.0.1:{LAB_PORT}",
    lab_token: str | None = None,
    origin: str = "soar.local/journal",
) -> Path:
    """Fill a new folder and return its soar.yaml; raises ConfigError where there already is one.

    The journal's key and the tokens are made here, readable by this account alone.
    """
    config = folder / "soar.yaml"
    if config.exists():
        raise ConfigError("already exists; `soar run` starts it, or name another folder", Place(str(config)))
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("playbooks", "policies"):
        shutil.copytree(starters(kind), folder / kind, dirs_exist_ok=True)
    for name in ("mappings", "data", "keys"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "keys").chmod(0o700)
    keys = {
        "journal.key": Signer.generate(origin).to_text(),
        "lab-token": lab_token or secrets.token_urlsafe(24),
        "ingest-token": secrets.token_urlsafe(24),
    }
    for name, value in keys.items():
        _write_private(folder / "keys" / name, value)
    (folder / ".gitignore").write_text("keys/\ndata/\n")
    template = resources.files("soar.demo").joinpath("home.yaml").read_text()
    account = pwd.getpwuid(os.getuid()).pw_name
    words = {
        "@LAB@": lab_url,
        "@HOME@": folder.resolve().as_posix().lstrip("/"),
        "@ACCOUNT@": account,
        "@ORIGIN@": origin,
    }
    for mark, value in words.items():
        template = template.replace(mark, value)
    config.write_text(template)
    return config


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
