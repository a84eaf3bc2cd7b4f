"""A home as `soar init` makes it, with a signed journal in it, and the commands run on it as a person runs them."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import typer
import yaml
from typer.testing import CliRunner

from soar.cli import study
from soar.cli.base import exit_code
from soar.demo.home import make_home
from soar.demo.samples import samples
from soar.errors import SoarError
from soar.model.clock import SystemClock
from soar.service import assemble
from soar.settings import load_settings


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def soar(*words: object) -> Said:
    """Run one command; an error of ours ends it as `soar.cli.main` does, any other is the test's failure."""
    app = typer.Typer(pretty_exceptions_enable=False)
    study.add_to(app)
    try:
        ended = CliRunner().invoke(app, [str(word) for word in words])
    finally:
        structlog.reset_defaults()  # a command that sets up logging speaks to a stream that is gone now
    if isinstance(ended.exception, SoarError):
        return Said(exit_code(ended.exception), ended.stdout, ended.stderr + str(ended.exception))
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Said(ended.exit_code, ended.stdout, ended.stderr)


class Home:
    """A folder with soar.yaml, and its parts by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "soar.yaml"
        self.store = folder / "data" / "soar.db"

    def soar(self, *words: object) -> Said:
        return soar(*words, "--config", self.config)

    def change(self, **sections: Any) -> None:
        """Replace whole sections of soar.yaml."""
        self.config.write_text(yaml.safe_dump({**yaml.safe_load(self.config.read_text()), **sections}))

    def admit(self, topic: str, *, sign: bool = True) -> None:
        """Let the samples in once more, as a running service would, under another topic."""

        async def work() -> None:
            async with assemble(load_settings(self.config, environ={})) as service:
                await service.intake().admit(samples(SystemClock().now(), topic=topic))
                if sign:
                    await service.sequencer().sign()

        asyncio.run(work())
        structlog.reset_defaults()


def first_home(folder: Path) -> Home:
    """A new home with two checkpoints over the samples."""
    make_home(folder)
    home = Home(folder)
    home.admit("first")
    home.admit("second")
    return home


def copy_of(home: Home, folder: Path) -> Home:
    shutil.copytree(home.folder, folder)
    return Home(folder)
