"""Exports: written in pieces they are the same, verified offline by two verifiers, and no byte can change unseen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from soar.errors import JournalError
from soar.journal import standalone
from soar.journal.export import STANDALONE, Export
from soar.journal.folder import ExportFolder, open_export
from soar.journal.tiles import new_tiles
from soar.journal.trust import TrustPolicy

from .logs import LOG, POLICY, STRANGER, WITNESSED, WITNESSES, Log, make_log

SIZE = 700


@pytest.fixture(scope="module")
def log() -> Log:
    return make_log(SIZE)


@pytest.fixture
def folder(log: Log, tmp_path: Path) -> Path:
    return log.export(tmp_path / "export", policy=WITNESSED)


def verified_alone(folder: Path, *earlier: str) -> str:
    return standalone.verify(folder, standalone.Policy(WITNESSED.to_text()), list(earlier))


def files(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())


def flip(path: Path, at: int, bits: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= bits
    path.write_bytes(raw)


def test_the_folder_is_laid_out_as_the_standard_says(folder: Path) -> None:
    expected = {tile.path for tile in new_tiles(0, SIZE)}
    expected |= {"tile/entries/000", "tile/entries/001", "tile/entries/002.p/188", "checkpoint", "policy", "verify.py"}
    assert expected == {str(path) for path in files(folder) if path.parts[0] != "payloads"}
    assert (folder / "payloads" / "005.json").exists()
    assert not (folder / "payloads" / "006.json").exists()


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, SIZE])
def test_both_verifiers_accept_it(log: Log, tmp_path: Path, size: int) -> None:
    log.export(tmp_path, size, policy=WITNESSED)
    opened = open_export(tmp_path, policy=WITNESSED)
    assert opened.ok, opened.report.problems
    assert opened.trusted
    assert set(opened.trusted.witnessed) == {each.name for each in WITNESSES}
    assert (opened.report.entries, opened.report.covered, opened.report.exposed) == (size, size, 0)
    assert verified_alone(tmp_path).startswith(f"{size} entries in ")


def test_an_export_without_payloads_verifies_and_says_how_many_it_lacks(log: Log, tmp_path: Path) -> None:
    log.export(tmp_path, policy=WITNESSED, payloads=False)
    opened = open_export(tmp_path, policy=WITNESSED)
    assert opened.ok
    assert opened.report.erased == sum(each.payload is not None for each in log.entries)
    assert " 0 payloads" in verified_alone(tmp_path)


@pytest.mark.parametrize("steps", [(1, 2, 3), (255, 256), (256, 512), (100, 300, 600, 601, SIZE), (SIZE, SIZE)])
def test_continuing_an_export_gives_the_same_files_as_writing_it_at_once(
    log: Log, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    for size in steps:
        log.export(tmp_path / "pieces", size, policy=WITNESSED)
    log.export(tmp_path / "whole", steps[-1], policy=WITNESSED)
    for name in files(tmp_path / "whole"):
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert open_export(tmp_path / "pieces", policy=WITNESSED).ok


def test_continuing_wants_new_entries_only(log: Log, folder: Path) -> None:
    export = Export(folder, policy=WITNESSED)
    assert export.size == SIZE
    with pytest.raises(JournalError, match=f"needs entry {SIZE} next, not 0"):
        export.take(log.entries[0])


def test_nothing_that_is_there_is_changed_by_continuing(log: Log, tmp_path: Path) -> None:
    log.export(tmp_path, 300, policy=WITNESSED)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path) if name.name != "checkpoint"}
    log.export(tmp_path, SIZE, policy=WITNESSED)
    assert all((tmp_path / name).read_bytes() == raw for name, raw in before.items())


def test_a_crash_before_the_checkpoint_leaves_the_earlier_export_valid(log: Log, tmp_path: Path) -> None:
    log.export(tmp_path, 300, policy=WITNESSED)
    halfway = Export(tmp_path, policy=WITNESSED)
    halfway.extend(log.entries[300:600])
    assert open_export(tmp_path, policy=WITNESSED).report.entries == 300
    log.export(tmp_path, SIZE, policy=WITNESSED)
    assert open_export(tmp_path, policy=WITNESSED).ok


def test_payloads_can_be_asked_for_later(log: Log, tmp_path: Path) -> None:
    log.export(tmp_path, policy=WITNESSED, payloads=False)
    Export(tmp_path, policy=WITNESSED).put_payload(log.entries[5])
    assert open_export(tmp_path, policy=WITNESSED).ok
    assert " 1 payloads" in verified_alone(tmp_path)


def test_erasure_leaves_the_export_and_its_proofs_valid(folder: Path) -> None:
    """A payload's file holds all that there is of it; without it everything still verifies."""
    shutil.rmtree(folder / "payloads")
    assert open_export(folder, policy=WITNESSED).ok
    assert verified_alone(folder)
    assert not [name for name in files(folder) if "søren".encode() in (folder / name).read_bytes()]


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (lambda log: log.signed(SIZE - 1), "speaks of 699 entries"),
        (lambda log: Log(log.entries[1:]).signed(SIZE - 1), "speaks of 699 entries"),
        (lambda log: log.signed(signer=STRANGER), "no key that we know"),
    ],
)
def test_a_checkpoint_that_is_not_over_the_entries_is_not_exported(
    log: Log, tmp_path: Path, note: object, said: str
) -> None:
    export = Export(tmp_path, policy=POLICY)
    export.extend(log.entries)
    with pytest.raises(JournalError, match=said):
        export.finish(note(log))  # type: ignore[operator]
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("name", ["tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/002.p/188", "checkpoint"])
def test_a_damaged_export_is_not_continued(folder: Path, name: str) -> None:
    flip(folder / name, 40)
    with pytest.raises(JournalError):
        Export(folder, policy=WITNESSED)


def test_another_logs_export_is_not_continued(log: Log, folder: Path) -> None:
    other = replace(WITNESSED, logs=(STRANGER.verifier,))
    with pytest.raises(JournalError, match="no key that we know"):
        Export(folder, policy=other)


# What an attacker may do to the folder.


@pytest.mark.parametrize("size", [2, 257])
def test_every_byte_of_every_file_is_guarded(log: Log, tmp_path: Path, size: int) -> None:
    """Of the small export every byte, of the large one every file; policy and verify.py come from elsewhere.

    The verifier that stands alone does not read the tiles above the entries.
    """
    log.export(tmp_path, size, policy=WITNESSED, payloads=size == 2)
    for name in files(tmp_path):
        if str(name) in {"policy", "verify.py"}:
            continue
        original = (tmp_path / name).read_bytes()
        for at in range(len(original)) if size == 2 else (0, len(original) // 2, len(original) - 1):
            flip(tmp_path / name, at, 1 << at % 8)
            assert not open_export(tmp_path, policy=all_witnesses()).ok, (name, at)
            if name.parts[:2] not in {("tile", "0"), ("tile", "1")}:
                assert refused_alone(tmp_path), (name, at)
            (tmp_path / name).write_bytes(original)
    assert open_export(tmp_path, policy=all_witnesses()).ok


def all_witnesses() -> TrustPolicy:
    """A policy under which a change of any signature line shows."""
    return TrustPolicy.of(WITNESSED.logs, witnesses=WITNESSED.witnesses.values(), quorum=len(WITNESSES))


def refused_alone(folder: Path) -> bool:
    try:
        standalone.verify(folder, standalone.Policy(all_witnesses().to_text()), [])
    except (ValueError, InvalidSignature):
        return True
    return False


@pytest.mark.parametrize("name", ["tile/0/001", "tile/entries/001", "tile/entries/002.p/188", "tile/1/000.p/2"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    report = open_export(folder, policy=WITNESSED).report
    assert any(name in each.message for each in report.problems)


def test_a_swapped_bundle_is_found_at_its_first_entry(folder: Path) -> None:
    first, second = (folder / "tile/entries" / name for name in ("000", "001"))
    first.write_bytes(second.read_bytes())
    report = open_export(folder, policy=WITNESSED).report
    assert report.first_bad == 0


def test_a_changed_entry_is_found_where_it_is(log: Log, folder: Path) -> None:
    """The verifier that stands alone names the run's next entry, which does not continue it any more."""
    bundle = folder / "tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b'"number":301,', b'"number":302,'))
    assert open_export(folder, policy=WITNESSED).report.first_bad == 301
    with pytest.raises(ValueError, match="after 307 entries: it is not number"):
        verified_alone(folder)


def test_a_payload_of_no_entry_is_found(folder: Path) -> None:
    (folder / "payloads" / "006.json").write_text((folder / "payloads" / "005.json").read_text())
    assert not open_export(folder, policy=WITNESSED).ok
    with pytest.raises(ValueError, match="payload"):
        verified_alone(folder)
    (folder / "payloads" / "006.json").rename(folder / "payloads" / "999.json")
    assert "belong to no entry" in open_export(folder, policy=WITNESSED).report.problems[0].message
    with pytest.raises(ValueError, match="belongs to no entry"):
        verified_alone(folder)


def test_an_export_continues_the_one_that_an_auditor_kept(log: Log, folder: Path) -> None:
    earlier = [log.signed(size) for size in (1, 300, 512, SIZE)]
    assert open_export(folder, policy=WITNESSED, earlier=earlier).ok
    assert verified_alone(folder, *earlier)


@pytest.mark.parametrize("size", [300, SIZE])
def test_a_rewritten_log_does_not_continue_what_an_auditor_kept(log: Log, tmp_path: Path, size: int) -> None:
    """Even where log and witnesses sign the new history as if nothing had been."""
    changed = replace(log.entries[100], leaf=log.entries[106].leaf, leaf_hash=log.entries[106].leaf_hash)
    kept = Log((*log.entries[:100], changed, *log.entries[101:])).signed(size)
    log.export(tmp_path, policy=WITNESSED)
    report = open_export(tmp_path, policy=WITNESSED, earlier=[kept]).report
    assert not report.ok
    assert "not what was signed" in report.problems[0].message
    with pytest.raises(ValueError, match=f"after {size} entries: the entries up to here"):
        verified_alone(tmp_path, kept)


def test_a_shortened_log_does_not_hold_what_an_auditor_kept(log: Log, tmp_path: Path) -> None:
    log.export(tmp_path, 300, policy=WITNESSED)
    report = open_export(tmp_path, policy=WITNESSED, earlier=[log.signed(301)]).report
    assert "entries 300 to 300 are missing" in report.problems[0].message
    with pytest.raises(ValueError, match="none or more than these 300"):
        verified_alone(tmp_path, log.signed(301))


def test_an_export_that_lacks_its_quorum_is_not_verified(log: Log, tmp_path: Path) -> None:
    export = Export(tmp_path, policy=POLICY)
    export.extend(log.entries)
    export.finish(log.signed(witnesses=WITNESSES[:1]))
    opened = open_export(tmp_path, policy=WITNESSED)
    assert not opened.ok
    assert opened.trusted is None
    assert "lacks the quorum" in opened.report.problems[0].message
    with pytest.raises(ValueError, match="too few witnesses"):
        verified_alone(tmp_path)


def test_the_exported_policy_is_readable(folder: Path) -> None:
    assert ExportFolder(folder).policy() == WITNESSED


# The verifier as a stranger runs it.


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Isolated: no site settings, no path to this product."""
    command = [sys.executable, "-I", str(folder / "verify.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)


def test_the_exported_verifier_runs_alone(log: Log, folder: Path, tmp_path: Path) -> None:
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert f"{SIZE} entries" in done.stdout
    assert "compare them" in done.stdout
    (tmp_path / "policy").write_text(WITNESSED.to_text())
    (tmp_path / "kept").write_text(log.signed(300))
    done = run(folder, folder, "--policy", tmp_path / "policy", "--earlier", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert "compare them" not in done.stdout


def test_the_exported_verifier_says_what_is_wrong(folder: Path) -> None:
    flip(folder / "checkpoint", 25)
    done = run(folder)
    assert done.returncode == 1
    assert done.stderr == "NOT VERIFIED: a signature is wrong\n"
    (folder / "checkpoint").unlink()
    assert "No such file" in run(folder).stderr


def test_the_verifier_is_short_and_imports_nothing_of_ours() -> None:
    source = STANDALONE.read_text()
    assert len(source.splitlines()) <= 200
    imported = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert imported - sys.stdlib_module_names == {"cryptography"}
    assert LOG.name not in source
