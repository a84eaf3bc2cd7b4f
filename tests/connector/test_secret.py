"""Secrets: only references are accepted, only the resolver turns them into values, and errors never hold a value."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from soar.connector.base import Model
from soar.connector.secret import Secret, SecretResolver
from soar.errors import ConfigError, NotSentError

CANARY = "canary-5f1d"


class Config(Model):
    token: Secret


def test_a_reference_shows_and_dumps_as_itself_and_reads_back():
    config = Config.model_validate({"token": "secret://env/TOKEN"})
    assert config.model_dump(mode="json") == {"token": "secret://env/TOKEN"}
    assert Config.model_validate(config.model_dump()) == config
    assert str(config.token) == "secret://env/TOKEN"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (CANARY, "must be a reference"),
        ("", "must be a reference"),
        (12345, "must be a reference"),
        ("secret://vault/kv/token", "known are env, file"),
        ("secret://env/", "name of an environment variable"),
        ("secret://env/A B", "name of an environment variable"),
        ("secret://file/", "absolute path"),
        ("secret://file//etc/passwd", "absolute path"),
    ],
)
def test_anything_else_is_refused_with_the_remedy_and_without_the_value(given, remedy):
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"token": given})
    assert remedy in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_unknown_kind_is_a_config_error_naming_what_is_supported():
    with pytest.raises(ConfigError, match="known are env, file"):
        Secret("secret://keyring/soar")


def test_the_environment_is_what_was_passed_in():
    assert SecretResolver({"TOKEN": CANARY}).reveal(Secret("secret://env/TOKEN")) == CANARY


@pytest.mark.parametrize("environ", [{}, {"TOKEN": ""}])
def test_a_missing_variable_is_proven_not_sent_and_names_the_reference(environ):
    with pytest.raises(NotSentError, match="secret://env/TOKEN is not set"):
        SecretResolver(environ).reveal(Secret("secret://env/TOKEN"))


@pytest.mark.parametrize("value", [f"{CANARY}\r\nX-Evil: 1", f"{CANARY}\x00", f"{CANARY}\x7f"])
def test_a_value_that_could_split_a_header_is_refused_without_showing_it(value):
    with pytest.raises(NotSentError) as caught:
        SecretResolver({"TOKEN": value}).reveal(Secret("secret://env/TOKEN"))
    assert CANARY not in str(caught.value)


def secret_file(folder: Path, mode: int, content: bytes = CANARY.encode() + b"\n") -> Secret:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return Secret(f"secret://file{path}")


def test_a_private_file_is_read_without_its_last_line_end(tmp_path):
    assert SecretResolver({}).reveal(secret_file(tmp_path, 0o600)) == CANARY


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_file_that_everyone_can_read_or_write_is_refused(tmp_path, mode):
    with pytest.raises(NotSentError, match="chmod o-rw") as caught:
        SecretResolver({}).reveal(secret_file(tmp_path, mode))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_holds_no_usable_secret_is_refused(tmp_path, content):
    with pytest.raises(NotSentError, match="secret://file/"):
        SecretResolver({}).reveal(secret_file(tmp_path, 0o600, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        tmp_path.chmod(0o700)
        with pytest.raises(NotSentError, match="secret://file/"):
            SecretResolver({}).reveal(Secret(f"secret://file{path}"))
