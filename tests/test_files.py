"""Files: nobody sees half of one, and what a killed run left is put right by the next."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ringkas import files
from ringkas.errors import ArtifactError
from ringkas.files import (
    LFS_POINTER,
    _is_running,
    is_inside,
    left_unfinished,
    read_whole,
    refuse_existing,
    require_folder_of,
    scratch_folder,
    sha256,
    staged_folder,
    why_unreadable,
    write_json,
)
from ringkas.runtimes.bulk.embedding import one_file


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "dist" / "artifact"


@pytest.fixture
def earlier(place: Path) -> Path:
    """A place that holds an earlier artifact."""
    return fill(place, "earlier")


def fill(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_text(content, "utf-8")
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Every file below, hidden ones too, with its content."""
    return {
        file.relative_to(folder).as_posix(): file.read_text("utf-8")
        for file in folder.rglob("*")
        if file.is_file()
    }


def build(place: Path, error: BaseException | None = None) -> None:
    with staged_folder(place, overwrite=True) as folder:
        (folder / "file").write_text("new", "utf-8")
        if error is not None:
            raise error


# Names and sums


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("model.onnx", True),
        ("onnx/model.onnx", True),
        ("", True),
        ("..model", True),
        ("../model", False),
        ("onnx/../../model", False),
        ("/etc/passwd", False),
        ("..\\model", False),
        ("C:\\model", False),
        ("a\0b", False),
        ("x" * 256, False),
        ("one/" * 300 + "file", True),
    ],
)
def test_names_that_leave_the_folder(name: str, inside: bool) -> None:
    assert is_inside(name) is inside


@pytest.mark.parametrize("data", [b"", b"abc", os.urandom(3_000_000)], ids=["empty", "abc", "3 MB"])
def test_sha256_equals_hashlib(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


# JSON


def test_json_is_written_whole_and_alone(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    write_json(file, {"key": ["한국어", 1.5]})
    assert msgspec.json.decode(file.read_bytes()) == {"key": ["한국어", 1.5]}
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_the_earlier_json(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    write_json(file, "earlier")
    with pytest.raises(TypeError):
        write_json(file, object())
    assert tree(tmp_path) == {"value.json": '"earlier"\n'}


def test_failing_rename_leaves_the_earlier_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "value.json"
    write_json(file, "earlier")

    def replace(self: Path, target: Path) -> Path:
        assert self.parent == target.parent  # a rename elsewhere would not be atomic
        assert self.read_text("utf-8") == '"later"\n'
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        write_json(file, "later")
    assert tree(tmp_path) == {"value.json": '"earlier"\n'}


@pytest.fixture
def null(tmp_path: Path) -> Path:
    """A device of its own: one that root may replace."""
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError as error:
        pytest.skip(f"a device cannot be made here: {error}")
    return device


def test_device_stays_a_device(null: Path) -> None:
    write_json(null, "value")
    assert null.is_char_device()
    assert list(null.parent.iterdir()) == [null]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(link, "value")
    assert os.read(reader, 100) == b'"value"\n'
    os.close(reader)
    assert link.is_symlink()
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/stdout").is_symlink(), reason="no /dev/stdout on this system")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_open_file_is_written_to(tmp_path: Path, kind: str, name: str) -> None:
    script = f"""
import pathlib
pathlib.Path.replace = None  # so that a failing test leaves the system's own link alone
from ringkas.files import write_json
write_json(pathlib.Path({name!r}), 'value')
"""
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE if kind == "pipe" else out, check=True
        )
    assert (done.stdout or (tmp_path / "out").read_bytes()) == b'"value"\n'
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_link_to_a_file_is_replaced_and_the_file_stays(tmp_path: Path) -> None:
    blob, link = tmp_path / "blob", tmp_path / "value.json"
    blob.write_text("earlier", "utf-8")
    link.symlink_to(blob)
    write_json(link, "later")
    assert not link.is_symlink()
    assert tree(tmp_path) == {"blob": "earlier", "value.json": '"later"\n'}


@pytest.mark.parametrize("name", ["value.json", "v[a]lue.json"])
def test_partial_file_of_a_dead_process_is_swept(tmp_path: Path, dead_pid: int, name: str) -> None:
    (tmp_path / f".{name}.partial-{dead_pid}").write_text("half", "utf-8")
    running = tmp_path / f".{name}.partial-{os.getppid()}"
    running.write_text("in the making", "utf-8")
    write_json(tmp_path / name, "value")
    assert tree(tmp_path) == {name: '"value"\n', running.name: "in the making"}


# Staged folders


def test_new_folder_appears_only_at_the_end(place: Path) -> None:
    with staged_folder(place) as folder:
        (folder / "file").write_text("new", "utf-8")
        assert not place.exists()
        assert folder.parent == place.parent
    assert tree(place.parent) == {"artifact/file": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_leaves_nothing(place: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        build(place, error())
    assert list(place.parent.iterdir()) == []


def test_exception_leaves_the_earlier_folder(earlier: Path) -> None:
    with pytest.raises(ValueError, match="stop"):
        build(earlier, ValueError("stop"))
    assert tree(earlier.parent) == {"artifact/file": "earlier"}


def test_os_error_is_one_line_that_names_the_place(place: Path) -> None:
    with (
        pytest.raises(ArtifactError, match=r"cannot write .*artifact: No space left on device"),
        staged_folder(place),
    ):
        raise OSError(28, "No space left on device")


def test_existing_folder_is_refused_and_untouched(earlier: Path) -> None:
    with pytest.raises(ArtifactError, match="--overwrite"), staged_folder(earlier):
        pytest.fail("the block must not run")
    assert tree(earlier.parent) == {"artifact/file": "earlier"}


def test_overwrite_keeps_the_earlier_folder_until_the_end(earlier: Path) -> None:
    with staged_folder(earlier, overwrite=True) as folder:
        (folder / "file").write_text("new", "utf-8")
        assert tree(earlier) == {"file": "earlier"}
    assert tree(earlier.parent) == {"artifact/file": "new"}


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_place_below_a_file_is_one_line(earlier: Path, below: str) -> None:
    with pytest.raises(ArtifactError, match="cannot write"), staged_folder(earlier / below / "artifact"):
        pytest.fail("the block must not run")
    assert tree(earlier.parent) == {"artifact/file": "earlier"}


# What killed runs leave


@pytest.mark.parametrize(
    "name", ["partial-{pid}", "partial-", "partial-nonsense", "partial-99999999999999999999"]
)
def test_partial_folder_of_a_dead_process_is_swept(place: Path, dead_pid: int, name: str) -> None:
    fill(place.parent / f".artifact.{name.format(pid=dead_pid)}", "half")
    build(place)
    assert tree(place.parent) == {"artifact/file": "new"}


def test_partial_folder_of_a_running_process_stays(place: Path) -> None:
    other = fill(place.parent / f".artifact.partial-{os.getppid()}", "in the making")
    build(place)
    assert tree(other) == {"file": "in the making"}


def test_process_is_not_signalled_where_that_would_end_it(
    dead_pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        patch.setattr(os, "kill", lambda *_: pytest.fail("0 is CTRL_C_EVENT on Windows"))
        assert _is_running(str(dead_pid))
    assert not _is_running(str(dead_pid))


def test_what_a_killed_run_never_finished_is_known_by_its_folder(tmp_path: Path, dead_pid: int) -> None:
    left = fill(tmp_path / f".artifact.partial-{dead_pid}-00", "half")
    making = fill(tmp_path / f".artifact.partial-{os.getppid()}-00", "in the making")
    (left / "within").mkdir()
    assert left_unfinished(left) == left_unfinished(left / "within") == left
    assert left_unfinished(making) is None
    assert left_unfinished(fill(tmp_path / "artifact.partial-results", "whole")) is None
    with scratch_folder(tmp_path / "out") as scratch:
        assert left_unfinished(scratch) is None
        kept = fill(tmp_path / "kept" / scratch.name, "copied by somebody")
    assert left_unfinished(kept) == kept


def test_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "out") as first, scratch_folder(tmp_path / "out") as second:
        assert first != second
        (first / "file").touch()
        assert first.parent == second.parent == tmp_path / "out"
    with pytest.raises(KeyError), scratch_folder(tmp_path / "out"):
        raise KeyError
    assert tree(tmp_path / "out") == {}


def test_scratch_folder_of_a_dead_process_is_swept(tmp_path: Path, dead_pid: int) -> None:
    fill(tmp_path / f".scratch.partial-{dead_pid}-00", "gigabytes")
    other = fill(tmp_path / f".scratch.partial-{os.getppid()}-00", "in use")
    with scratch_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [other.name]


def test_partial_folder_of_another_artifact_stays(place: Path, dead_pid: int) -> None:
    other = fill(place.parent / f".artifact-2.partial-{dead_pid}", "half")
    build(place)
    assert tree(other) == {"file": "half"}


def test_partial_folder_of_a_dead_process_with_this_ones_id_is_swept(place: Path) -> None:
    fill(place.parent / f".artifact.partial-{os.getpid()}", "half")
    build(place)
    assert tree(place.parent) == {"artifact/file": "new"}


KILLED = """
import os, signal, sys
from pathlib import Path
from ringkas import files
from ringkas.files import staged_folder
files._exchange = lambda one, other: False  # as where the system cannot
rename, done = Path.rename, []
def die_at_the_second(self, target):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(rename(self, target))
Path.rename = die_at_the_second
with staged_folder(Path(sys.argv[1]), overwrite=True) as folder:
    (folder / "file").write_text("new")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_between_the_two_renames_the_earlier_folder_comes_back(earlier: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(earlier)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not earlier.exists()
    with pytest.raises(ArtifactError, match="exists"), staged_folder(earlier):
        pytest.fail("the block must not run")
    assert tree(earlier.parent) == {"artifact/file": "earlier"}


def test_earlier_folder_moved_aside_comes_back(place: Path) -> None:
    fill(place.parent / ".artifact.previous", "earlier")
    with pytest.raises(ArtifactError, match="exists"), staged_folder(place):
        pytest.fail("the block must not run")
    assert tree(place.parent) == {"artifact/file": "earlier"}


def test_killed_after_the_renames_the_earlier_folder_goes(place: Path) -> None:
    fill(place.parent / ".artifact.previous", "earlier")
    fill(place, "later")
    with pytest.raises(ArtifactError, match="exists"), staged_folder(place):
        pytest.fail("the block must not run")
    assert tree(place.parent) == {"artifact/file": "later"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_of_its_own_is_refused_and_untouched(place: Path, kind: str) -> None:
    place.parent.mkdir()
    if kind == "file":
        place.write_text("a file", "utf-8")
    else:
        place.symlink_to(fill(place.parent.parent / "elsewhere", "linked"))
    before = tree(place.parents[1])
    with pytest.raises(ArtifactError, match="is not a folder of its own"):
        build(place)
    assert tree(place.parents[1]) == before
    assert list(place.parent.iterdir()) == [place]
    assert place.is_symlink() is (kind == "link")


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_leaves_the_earlier_folder(small_disk: Path) -> None:
    place = fill(small_disk / "artifact", "earlier")
    with (
        pytest.raises(ArtifactError, match="No space left on device"),
        staged_folder(place, overwrite=True) as folder,
    ):
        (folder / "file").write_bytes(b"x" * 1_000_000)
    assert tree(small_disk) == {"artifact/file": "earlier"}


def test_full_disk_leaves_the_earlier_json(small_disk: Path) -> None:
    write_json(small_disk / "value.json", "earlier")
    with pytest.raises(OSError, match="No space left on device"):
        write_json(small_disk / "value.json", "x" * 1_000_000)
    assert tree(small_disk) == {"value.json": '"earlier"\n'}


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl"])
def test_vectors_of_a_killed_run_are_swept_by_the_next(tmp_path: Path, dead_pid: int, name: str) -> None:
    left = tmp_path / f".{name}.partial-{dead_pid}-00"
    left.write_bytes(b"half")
    with one_file(tmp_path / name) as stream:
        (unfinished,) = tmp_path.glob(f".{name}.partial-{os.getpid()}-*")
        assert not left.exists()
        stream.write(b"whole")
    assert not unfinished.exists()
    assert (tmp_path / name).read_bytes() == b"whole"


# Two at once, and disks that are shared


def overtaken(place: Path, *, overwrite: bool) -> None:
    """A run that another one overtakes."""
    with staged_folder(place, overwrite=overwrite) as second:
        (second / "file").write_text("second", "utf-8")
        with staged_folder(place) as first:
            (first / "file").write_text("first", "utf-8")


def test_second_of_two_runs_is_refused_and_the_first_stays(place: Path) -> None:
    with pytest.raises(ArtifactError, match=r"artifact exists\. Add --overwrite"):
        overtaken(place, overwrite=False)
    assert tree(place.parent) == {"artifact/file": "first"}


def test_second_of_two_runs_replaces_where_it_may(place: Path) -> None:
    overtaken(place, overwrite=True)
    assert tree(place.parent) == {"artifact/file": "second"}


OTHER_MACHINE = """
import sys, time
from pathlib import Path
from ringkas import files
files._machine = lambda: "0a0a0a0a"
with files.staged_folder(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("in the making")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_what_another_container_makes_stays_until_it_dies(place: Path) -> None:
    """There the same process number means somebody else: the lock tells, and it goes with its process."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_MACHINE, str(place)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        os.utime(folder, (0, 0))  # made long ago
        build(place.with_name("artifact"))
        assert tree(folder) == {"file": "in the making"}
        other.kill()
    os.utime(folder, (0, 0))
    build(place)
    assert not folder.exists()


def test_what_another_machine_has_only_just_begun_stays(place: Path) -> None:
    """It may not have taken its lock yet."""
    other = fill(place.parent / ".artifact.partial-1-0a0a0a0a-00", "begun")
    build(place)
    assert tree(other) == {"file": "begun"}


@pytest.mark.skipif(os.name == "nt", reason="no such rights there")
@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_the_rights_of_the_umask(place: Path, umask: int, rights: int) -> None:
    script = (
        "import os, sys; from pathlib import Path; from ringkas.files import staged_folder, write_json\n"
        f"os.umask({umask})\n"
        "with staged_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'deep').mkdir()\n"
        "    os.close(os.open(folder / 'deep' / 'private', os.O_CREAT | os.O_WRONLY, 0o600))\n"
        "    write_json(folder / 'value.json', 1)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(place)], check=True)
    files = [file for file in place.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {rights}
    assert len(files) == 2


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to be somebody else for once")
def test_permission_is_what_is_missing_and_is_said_before_any_work(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    (closed / "secret").write_text("x", "utf-8")
    (closed / "secret").chmod(0o600)
    (tmp_path / "pointer").write_bytes(LFS_POINTER + b"v1\noid sha256:00\n")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        said = []
        for ask in (
            lambda: refuse_existing([closed / "deep" / "artifact"]),
            lambda: require_folder_of(closed / "vectors.npy"),
        ):
            try:
                ask()
            except ArtifactError as error:
                said.append("may not be written to" in str(error))
        said.append(why_unreadable(closed / "secret") == "Permission denied")
        said.append(why_unreadable(tmp_path / "pointer").startswith("it is a Git-LFS pointer"))
        os._exit(0 if said == [True] * 4 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_what_is_no_file_is_unreadable_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "away").symlink_to("nowhere")
    said = {file.name: why_unreadable(file) for file in tmp_path.iterdir()}
    assert said == {
        **dict.fromkeys(("folder", "pipe"), "it is not a regular file"),
        **dict.fromkeys(("itself", "away"), "it is a link, and what it names is not there"),
    }


def test_home_folder_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_json(Path("~/value.json"), 1)
    build(Path("~/dist/artifact"))
    assert tree(tmp_path) == {"value.json": "1\n", "dist/artifact/file": "new"}
    with pytest.raises(ArtifactError, match="exists"):
        refuse_existing([Path("~/dist/artifact")])


def test_overwritten_folder_is_there_at_every_moment(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("0", "utf-8")
    ended, missing = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            if not (place / "file").is_file():
                missing.append(1)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for number in range(200):
            with staged_folder(place, overwrite=True) as folder:
                (folder / "file").write_text(str(number), "utf-8")
    finally:
        ended.set()
        looking.join()
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("this system cannot exchange two folders in one step")
    assert not missing
    assert (place / "file").read_text("utf-8") == "199"
    assert [one.name for one in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize("exchange", [True, False])
def test_overwritten_with_and_without_an_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for number in range(2):
        with staged_folder(tmp_path / "place", overwrite=True) as folder:
            (folder / "file").write_text(str(number), "utf-8")
    assert (tmp_path / "place" / "file").read_text("utf-8") == "1"
    assert [one.name for one in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize("kind", ["a pipe", "a device", "holes", "a folder"])
def test_what_would_be_waited_for_or_never_ends_is_not_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file.json"
    if kind == "a pipe":
        os.mkfifo(file)
    elif kind == "a device":
        file.symlink_to("/dev/zero")
    elif kind == "a folder":
        file.mkdir()
    else:
        with file.open("wb") as stream:
            stream.truncate(1 << 40)
    with pytest.raises(OSError, match=r"regular file|more than"):
        read_whole(file)
