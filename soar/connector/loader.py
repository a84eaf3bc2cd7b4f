"""Finds connectors: installed ones by entry point, a user's own in a folder; imports one when it is asked for."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from soar.connector.base import BoundAction, Connector, actions_of
from soar.connector.capabilities import shortfalls
from soar.errors import ConfigError
from soar.located import did_you_mean

GROUP = "soar.connectors"
_NAMESPACE = "soar_dropped_in_"


@dataclass(frozen=True)
class LoadedConnector:
    """A connector's code as it was loaded: what the journal records at start."""

    name: str
    version: str
    digest: str  # SHA-256 over the code's files, in hex
    origin: str  # the distribution, or the file


@dataclass(frozen=True)
class Loaded:
    """A connector class, its actions by verb, and where it came from."""

    connector: type[Connector[Any]]
    actions: Mapping[str, BoundAction]
    info: LoadedConnector


class Loader:
    """The connectors that could be used here, by name.

    Raises ConfigError for a name that two of them claim, and for a drop-in folder or file that anybody may write.
    """

    def __init__(self, connectors_dir: Path | None = None) -> None:
        self._entry_points = _installed()
        self._files = _dropped_in(connectors_dir) if connectors_dir else {}
        self._loaded: dict[str, Loaded] = {}
        for name in sorted(self._entry_points.keys() & self._files.keys()):
            both = f"{self._files[name]} and the installed {_distribution(self._entry_points[name])}"
            raise ConfigError(f"two connectors are named {name!r}: {both}; rename or remove one")

    def names(self) -> list[str]:
        """Every name, in order."""
        return sorted(self._entry_points.keys() | self._files.keys())

    def load(self, name: str) -> Loaded:
        """Import one; raises ConfigError where there is none, or it is not a complete connector."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Loaded:
        if name in self._files:
            path = self._files[name]
            digest = digest_of(path)  # before the import: what was hashed is what runs
            return _checked(name, _class_in(_import_file(name, path), name), digest, str(path))
        if name not in self._entry_points:
            raise ConfigError(f"no connector {name!r}{did_you_mean(name, self.names())}")
        point = self._entry_points[name]
        try:
            digest = digest_of(_code_of(point.module))
            found = point.load()
        except Exception as failure:
            raise _unusable(name, _distribution(point), failure) from failure
        return _checked(name, found, digest, _distribution(point))


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in found and found[point.name].value != point.value:
            both = f"{_distribution(found[point.name])} and {_distribution(point)}"
            raise ConfigError(f"two installed connectors are named {point.name!r}: {both}; uninstall one")
        found[point.name] = point
    return found


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _dropped_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigError(f"connectors_dir {folder} is no folder; create it or remove the setting")
    for path in (folder, *sorted(folder.rglob("*"))):
        if path.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(f"{path} can be written by everyone, and it is code; run: chmod o-w {path}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            if path.stem in found:
                raise ConfigError(f"{found[path.stem]} and {path} are both {path.stem!r}; remove one")
            found[path.stem] = path
    return found


def _code_of(module: str) -> Path:
    """The folder of the package that a module belongs to, or the module's own file where it belongs to none."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"there is no module {module}")
    origin = Path(spec.origin)
    return origin.parent if spec.parent else origin


def digest_of(path: Path) -> str:
    """SHA-256 over a file, or over every file of a folder but caches: relative name, length, bytes, in order."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    root = path.parent if path.is_file() else path
    digest = hashlib.sha256()
    for each in sorted(files):
        name = each.relative_to(root).as_posix()
        if "__pycache__" not in name:
            data = each.read_bytes()
            digest.update(f"{name}\n{len(data)}\n".encode())
            digest.update(data)
    return digest.hexdigest()


def _import_file(name: str, path: Path) -> ModuleType:
    init = path / "__init__.py" if path.is_dir() else path
    inside = [str(path)] if path.is_dir() else None
    module_name = f"{_NAMESPACE}{name}"
    spec: ModuleSpec | None = importlib.util.spec_from_file_location(
        module_name, init, submodule_search_locations=inside
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # annotations and relative imports are looked up there
    try:
        spec.loader.exec_module(module)
    except Exception as failure:
        del sys.modules[module_name]
        raise _unusable(name, str(path), failure) from failure
    return module


def _class_in(module: ModuleType, name: str) -> object:
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, Connector) and getattr(found, "name", None) == name:
            return found
    raise ConfigError(f"{module.__file__} holds no Connector with name = {name!r}; add one or rename the file")


def _checked(name: str, found: object, digest: str, origin: str) -> Loaded:
    """The class with its actions; no declaration, no load."""
    if not (inspect.isclass(found) and issubclass(found, Connector)):
        raise ConfigError(f"connector {name!r} from {origin} is no subclass of soar.connector.base.Connector")
    missing = [field for field in ("name", "version", "vendor", "product", "Config") if not hasattr(found, field)]
    if missing:
        raise ConfigError(f"connector {name!r} from {origin} lacks {', '.join(missing)}; set them on {found.__name__}")
    if found.name != name:
        raise ConfigError(f"connector {name!r} from {origin} calls itself {found.name!r}; use one name for both")
    try:
        actions = actions_of(found)
    except TypeError as failure:
        raise _unusable(name, origin, failure) from failure
    wrong = [f"{each.spec.name}: {why}" for each in actions.values() for why in shortfalls(each)]
    if wrong:
        raise ConfigError(f"connector {name!r} from {origin} breaks its word: {'; '.join(wrong)}")
    return Loaded(found, actions, LoadedConnector(name, found.version, digest, origin))


def _unusable(name: str, origin: str, failure: Exception) -> ConfigError:
    return ConfigError(f"connector {name!r} from {origin} cannot be loaded: {type(failure).__name__}: {failure}")
