"""Folders: what loads, what is left out and why; one broken file never keeps the others out."""

import pytest

from soar.errors import NotFoundError
from soar.library.folder import files_below, load_folders


def write(folder, name, body="steps: [{stop: succeeded}]", *, playbook=None):
    text = f"playbook: {playbook or name}\ndescription: d\nowner: o\n{body}\n"
    (folder / f"{name}.yaml").write_text(text)
    return text


@pytest.fixture
def load(everything):
    return lambda *folders: load_folders(folders, everything)


def test_a_broken_file_is_left_out_with_its_errors(load, tmp_path):
    write(tmp_path, "good")
    write(tmp_path, "bad", "steps: [{ues: x}]")
    write(tmp_path, "worse", "steps: [")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    library = load(tmp_path)
    assert list(library.playbooks) == ["good"]
    assert [str(error).removeprefix(f"{tmp_path}/") for error in library.errors] == [
        "bad.yaml:4:9: unknown key 'ues'; did you mean 'use'?",
        "binary.yaml: is not UTF-8 (byte 0); save it as UTF-8",
        "worse.yaml:5:1: is no YAML: did not find expected node content",
    ]


def test_an_id_in_two_files_loads_neither_and_names_both(load, tmp_path):
    write(tmp_path, "one", playbook="same")
    write(tmp_path, "two", playbook="same")
    library = load(tmp_path)
    assert not library.playbooks
    assert [str(error) for error in library.errors] == [
        f"{tmp_path}/one.yaml:1:11: playbook 'same' stands also in {tmp_path}/two.yaml; rename one, neither is loaded",
        f"{tmp_path}/two.yaml:1:11: playbook 'same' stands also in {tmp_path}/one.yaml; rename one, neither is loaded",
    ]


def test_folders_that_overlap_read_a_file_once(load, tmp_path):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner", "one")
    library = load(tmp_path, tmp_path / "inner")
    assert list(library.playbooks) == ["one"]
    assert not library.errors


def test_tests_beside_playbooks_are_no_playbooks(load, tmp_path):
    write(tmp_path, "one")
    write(tmp_path, "one.test")
    assert list(load(tmp_path).playbooks) == ["one"]


def test_a_folder_that_is_not_there_is_an_error(load, tmp_path):
    assert [str(e) for e in load(tmp_path / "no").errors] == [
        f"{tmp_path}/no: is no folder; create it, or correct soar.yaml"
    ]


def test_the_text_of_a_playbook_in_force_is_kept_under_its_digest(load, tmp_path):
    text = write(tmp_path, "one")
    library = load(tmp_path)
    assert library.text_of(library.playbooks["one"].digest) == text
    with pytest.raises(NotFoundError):
        library.text_of("0" * 64)


def test_the_digest_names_the_set(load, tmp_path):
    write(tmp_path, "one")
    first = load(tmp_path).digest
    assert load(tmp_path).digest == first
    write(tmp_path, "two")
    second = load(tmp_path).digest
    write(tmp_path, "two", "steps: [{stop: failed}]")
    assert len({first, second, load(tmp_path).digest}) == 3


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("{call: nothing}", "no playbook 'nothing'"),
        ("{call: callee}", "playbook 'callee' needs key; add it under with:"),
        ("{call: callee, with: {kye: a}}", "playbook 'callee' has no input 'kye'; did you mean 'key'?"),
        ("{call: caller}", "calls itself in a circle: caller -> caller; break it"),
        ("{call: broken}", "calls playbook 'broken', which was left out; see its errors"),
    ],
)
def test_a_call_that_cannot_work_leaves_its_caller_out(load, tmp_path, call, why):
    write(tmp_path, "callee", "inputs: {required: [key], properties: {key: {}}}\nsteps: [{stop: succeeded}]")
    write(tmp_path, "caller", f"steps: [{call}]")
    write(tmp_path, "broken", "steps: [{use: no.such}]")
    library = load(tmp_path)
    assert list(library.playbooks) == ["callee"]
    assert f"{tmp_path}/caller.yaml:4:16: {why}" in [str(error) for error in library.errors]


def test_a_circle_of_calls_is_named_and_left_out_whole(load, tmp_path):
    write(tmp_path, "a", "steps: [{call: b}]")
    write(tmp_path, "b", "steps: [{if: alert.title, then: [{call: c}]}]")
    write(tmp_path, "c", "steps: [{stop: failed, on_error: [{call: a}]}]")
    write(tmp_path, "outside", "steps: [{stop: failed}]")
    library = load(tmp_path)
    assert list(library.playbooks) == ["outside"]
    assert [error.message for error in library.errors] == [
        "calls itself in a circle: a -> b -> c -> a; break it",
        "calls itself in a circle: b -> c -> a -> b; break it",
        "calls itself in a circle: c -> a -> b -> c; break it",
    ]


def test_who_calls_what_was_left_out_is_left_out_in_turn(load, tmp_path):
    write(tmp_path, "a", "steps: [{call: b}]")
    write(tmp_path, "b", "steps: [{call: c}]")
    write(tmp_path, "c", "steps: [{use: no.such}]")
    assert not load(tmp_path).playbooks


def test_a_file_saved_while_the_folder_is_read_has_changed_since(everything, tmp_path):
    """Whoever watches the folder finds it, whether the old text was read or the new."""
    write(tmp_path, "one", "steps: [{use: ticket.create, with: {title: t}}]")

    class SavedMeanwhile:
        def __getattr__(self, name):
            write(tmp_path, "one", "steps: [{use: ticket.create, with: {title: another}}]")
            return getattr(everything, name)

    library = load_folders([tmp_path], SavedMeanwhile())
    assert list(library.playbooks) == ["one"]
    assert files_below([tmp_path]) != library.files
    assert files_below([tmp_path]) == load_folders([tmp_path], everything).files
