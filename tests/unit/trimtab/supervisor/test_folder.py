"""One supervisor a folder, and what a killed one left behind is ended, never anything else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from trimtab.errors import UsageError
from trimtab.supervisor.folder import DataFolder

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.make()
    return made


class TestMake:
    def test_is_for_the_owner_only(self, folder: DataFolder) -> None:
        assert folder.root.stat().st_mode & 0o777 == 0o700

    def test_names_a_folder_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match=r"file/data cannot be used .*--data-dir"):
            DataFolder(tmp_path / "file" / "data").make()


class TestHeld:
    def test_a_second_holder_is_told_the_pid_of_the_first(self, folder: DataFolder) -> None:
        with folder.held(), pytest.raises(UsageError, match=rf"pid {os.getpid()}\) runs on"), folder.held():
            pass

    def test_is_free_again_afterwards(self, folder: DataFolder) -> None:
        for _ in range(2):
            with folder.held():
                pass


class TestEndLeftovers:
    def test_ends_what_was_remembered(self, folder: DataFolder) -> None:
        with subprocess.Popen(SLEEP, start_new_session=True) as process:
            folder.remember_processes({"worker": process.pid})
            assert folder.end_leftovers() == ["worker"]
            process.wait(5)

    def test_leaves_a_process_that_only_has_the_same_pid(self, folder: DataFolder) -> None:
        with subprocess.Popen(SLEEP, start_new_session=True) as process:
            started = psutil.Process(process.pid).create_time()
            rows = [{"component": "worker", "pid": process.pid, "started": started - 100}]
            (folder.root / "processes.json").write_text(json.dumps(rows))
            assert folder.end_leftovers() == []
            assert process.poll() is None
            process.kill()

    def test_nothing_remembered_is_nothing_to_end(self, folder: DataFolder) -> None:
        assert folder.end_leftovers() == []
