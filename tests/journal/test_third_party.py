"""Go programs by others verify what we export: Tessera's fsck, Go's own tlog and note, the C2SP formats.

The program is in tests/go. Without Go, or without its modules, these tests are skipped; with CI=true they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from soar.journal.folder import ExportFolder
from soar.journal.proof import prove_entry
from soar.journal.tiles import nodes_in_tiles

from .logs import LOG, WITNESSED, WITNESSES, Log, make_log

SOURCE = Path(__file__).resolve().parents[1] / "go"
SIZES = (1, 3, 255, 256, 257, 70_000)

pytestmark = pytest.mark.timeout(600)  # the first build downloads and compiles Tessera


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (with CI=true this is a failure)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def checkexport(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier, built from pinned modules."""
    if shutil.which("go") is None:
        unavailable("go is not installed")
    program = tmp_path_factory.mktemp("go") / "checkexport"
    build = ["go", "build", "-mod=readonly", "-o", str(program), "."]
    done = subprocess.run(build, cwd=SOURCE, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"the Go verifier cannot be built: {done.stderr.strip()}")
    return program


@pytest.fixture(scope="module")
def whole() -> Log:
    return make_log(max(SIZES))


@pytest.fixture(params=SIZES)
def export(request: pytest.FixtureRequest, whole: Log, tmp_path: Path) -> Path:
    """An export that was continued once, with proofs of its first, middle and last entries."""
    size = request.param
    for part in sorted({max(size // 3, 1), size}):
        whole.export(tmp_path, part, policy=WITNESSED, payloads=size < 1000)
    nodes = nodes_in_tiles(size, ExportFolder(tmp_path).tile)
    (tmp_path / "proofs").mkdir()
    for index in {0, size // 2, size - 1}:
        proof = prove_entry(index, whole.entries[index].leaf, note=whole.signed(size), nodes=nodes)
        (tmp_path / "proofs" / f"{index}.tlog-proof").write_text(proof.to_text())
    return tmp_path


def check(program: Path, folder: Path, *keys: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(folder), *map(str, keys)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_tools_of_others_verify_our_export(checkexport: Path, export: Path) -> None:
    done = check(checkexport, export, LOG.verifier, *(each.verifier for each in WITNESSES))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("proofs, 3 witnesses")


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/000", "tile/1/000.p/1", "tile/entries/001.p/1"])
def test_they_find_what_was_changed(checkexport: Path, whole: Log, tmp_path: Path, name: str) -> None:
    """So it is the export that they look at."""
    whole.export(tmp_path, 257)
    assert check(checkexport, tmp_path, LOG.verifier).returncode == 0
    raw = bytearray((tmp_path / name).read_bytes())
    raw[30] ^= 1  # of the checkpoint, within the root
    (tmp_path / name).write_bytes(raw)
    assert check(checkexport, tmp_path, LOG.verifier).returncode == 1
