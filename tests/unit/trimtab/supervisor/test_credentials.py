"""Secrets are made once, kept for the owner only, and a damaged file is told."""

import json
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from trimtab.errors import CommandError
from trimtab.supervisor import credentials


def write_secret_file(folder: Path) -> str:
    """As the first version wrote it."""
    older = {"admin_token": "tt_x", "enrolment_token": "tte_x", "redis_password": "ttr_x"}
    (folder / credentials.FILE).write_text(json.dumps(older))
    return json.dumps(older)


class TestEnsure:
    def test_the_second_start_has_those_of_the_first(self, tmp_path: Path) -> None:
        assert credentials.ensure(tmp_path) == credentials.ensure(tmp_path)

    def test_two_folders_have_different_ones(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        assert credentials.ensure(tmp_path) != credentials.ensure(tmp_path / "other")

    def test_only_the_owner_may_read_them(self, tmp_path: Path) -> None:
        credentials.ensure(tmp_path)
        assert (tmp_path / credentials.FILE).stat().st_mode & 0o777 == 0o600

    def test_what_a_later_version_wants_is_added_and_the_rest_stays(self, tmp_path: Path) -> None:
        before = json.loads(write_secret_file(tmp_path))
        found = credentials.ensure(tmp_path)
        assert {name: getattr(found, name) for name in before} == before
        assert Fernet(found.secret_key)
        assert credentials.ensure(tmp_path) == found

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"admin_token": "tt_x"'])
    def test_a_damaged_file_is_an_error_with_the_way_out(self, tmp_path: Path, content: str) -> None:
        (tmp_path / credentials.FILE).write_text(content)
        with pytest.raises(CommandError, match=r"credentials\.json cannot be used .* remove it"):
            credentials.ensure(tmp_path)
