"""The wheel, as a stranger installs it: with the starters inside, and working away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout with the hatchling that is installed here."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, str(wheel)], check=True)
    return folder


def run(installed: Path, *command: str) -> str:
    """Run a command away from the checkout, with the wheel before anything else on Python's path."""
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, env=env, cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("soar", "soar"),
        ("connectors/soar_connectors", "soar_connectors"),
        ("playbooks", "soar/_bundled/playbooks"),
        ("policies", "soar/_bundled/policies"),
    ],
)
def test_every_file_is_in_the_wheel(wheel: Path, source: str, target: str) -> None:
    """Data files too: starters, mappings, SQL, the console's pages, py.typed."""
    files = {
        path.relative_to(ROOT / source)
        for path in (ROOT / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files
    assert {f"{target}/{file.as_posix()}" for file in files} <= names(wheel)


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names(wheel)} == {"soar", "soar_connectors", "soar-0.1.0.dist-info"}


def test_it_is_the_installed_package_that_is_imported(installed: Path) -> None:
    printed = run(
        installed, sys.executable, "-c", "import soar, soar_connectors; print(soar.__version__, soar.__file__)"
    )
    assert printed.split() == ["0.1.0", str(installed / "soar" / "__init__.py")]


def test_the_command_starts(installed: Path) -> None:
    assert "Usage: soar" in run(installed, str(installed / "bin" / "soar"), "--help")


def test_every_connector_that_the_wheel_announces_can_be_loaded(installed: Path) -> None:
    code = (
        "from importlib.metadata import distributions\n"
        f"(soar,) = distributions(name='soar', path=[{str(installed)!r}])\n"
        "for point in soar.entry_points.select(group='soar.connectors'): print(point.name, point.load().__name__)"
    )
    assert "lab_desk LabDesk" in run(installed, sys.executable, "-c", code).splitlines()
