"""Where the reading commands look for their control plane, and what they say when there is none."""

from pathlib import Path

import pytest

from trimtab import connection
from trimtab.connection import Connection
from trimtab.errors import CommandError, UsageError

HERE = Connection("http://127.0.0.1:8700", "tt_x", pid=7, nodes=(("node-1", "http://127.0.0.1:8701"),))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRIMTAB_URL", "TRIMTAB_TOKEN", "TRIMTAB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)


class TestResolve:
    def test_reads_what_was_written(self, tmp_path: Path) -> None:
        connection.write(tmp_path, HERE)
        assert connection.resolve(tmp_path) == HERE
        assert (tmp_path / connection.FILE).stat().st_mode & 0o777 == 0o600

    def test_the_environment_beats_the_default_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".trimtab").mkdir()
        connection.write(tmp_path / ".trimtab", HERE)
        assert connection.resolve(None) == HERE
        monkeypatch.setenv("TRIMTAB_URL", "https://there/")
        monkeypatch.setenv("TRIMTAB_TOKEN", "tt_y")
        assert connection.resolve(None) == Connection("https://there", "tt_y")
        assert connection.resolve(tmp_path / ".trimtab") == HERE

    def test_an_address_without_a_token_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRIMTAB_URL", "http://there")
        with pytest.raises(UsageError, match="TRIMTAB_TOKEN"):
            connection.resolve(None)

    def test_nothing_anywhere_names_all_ways(self) -> None:
        with pytest.raises(UsageError, match=r"trimtab up.*--data-dir.*TRIMTAB_URL"):
            connection.resolve(None)

    @pytest.mark.parametrize("content", ["", "[]", '{"url": "http://x"}'])
    def test_a_damaged_file_is_told(self, tmp_path: Path, content: str) -> None:
        (tmp_path / connection.FILE).write_text(content)
        with pytest.raises(CommandError, match="cannot be read"):
            connection.resolve(tmp_path)


class TestDefaultDataDir:
    def test_follows_xdg_and_the_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert connection.default_data_dir() == tmp_path / "xdg" / "trimtab"
        monkeypatch.setenv("TRIMTAB_DATA_DIR", "/elsewhere")
        assert connection.default_data_dir() == Path("/elsewhere")
