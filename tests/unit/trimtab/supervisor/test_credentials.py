"""Secrets are made once, kept for the owner only, and a damaged file is told."""

from pathlib import Path

import pytest

from trimtab.errors import CommandError
from trimtab.supervisor import credentials


class TestEnsure:
    def test_the_second_start_has_those_of_the_first(self, tmp_path: Path) -> None:
        assert credentials.ensure(tmp_path) == credentials.ensure(tmp_path)

    def test_two_folders_have_different_ones(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        assert credentials.ensure(tmp_path) != credentials.ensure(tmp_path / "other")

    def test_only_the_owner_may_read_them(self, tmp_path: Path) -> None:
        credentials.ensure(tmp_path)
        assert (tmp_path / credentials.FILE).stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"admin_token": "tt_x"'])
    def test_a_damaged_file_is_an_error_with_the_way_out(self, tmp_path: Path, content: str) -> None:
        (tmp_path / credentials.FILE).write_text(content)
        with pytest.raises(CommandError, match=r"credentials\.json cannot be used .* remove it"):
            credentials.ensure(tmp_path)
