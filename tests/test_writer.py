"""Laws of files written in the background: snapshots, in order, one at a time, and no error is lost."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hectocar.errors import HectocarError
from hectocar.network.weights import load_tensors_with_state
from hectocar.training import writer as room
from hectocar.training.writer import TensorWriter


@pytest.mark.parametrize("background", [False, True])
def test_a_file_holds_what_was_at_the_call(background: bool, tmp_path: Path) -> None:
    """Weights and state that change right after the call do not reach the file."""
    weight, state = torch.zeros(1000), {"step": 1, "pairs": [1]}
    with TensorWriter(background) as writer:
        writer.save(tmp_path / "a.safetensors", {"weight": weight}, state)
        weight.fill_(7.0)
        state["pairs"] = [2]
    tensors, found = load_tensors_with_state(tmp_path / "a.safetensors")
    assert torch.equal(tensors["weight"], torch.zeros(1000))
    assert found == {"step": 1, "pairs": [1]}


def test_files_are_written_one_by_one_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller goes on while one is under way; the next call waits, and the end waits for the last."""
    done: list[str] = []
    may_write, save = threading.Event(), room.save_tensors

    def slow(path: Path, tensors: dict[str, Tensor], state: Any) -> None:
        may_write.wait(60.0)
        time.sleep(0.02)
        save(path, tensors, state)
        done.append(path.name)

    monkeypatch.setattr(room, "save_tensors", slow)
    with TensorWriter(background=True) as writer:
        writer.save(tmp_path / "0", {"a": torch.zeros(1)}, {})
        assert done == [], "the call returned before anything was written"
        may_write.set()
        for number in range(1, 4):
            writer.save(tmp_path / str(number), {"a": torch.zeros(1)}, {})
            assert done == [str(earlier) for earlier in range(number)]
        writer.wait()
        assert done == ["0", "1", "2", "3"]
        writer.save(tmp_path / "4", {"a": torch.zeros(1)}, {})
    assert done[-1] == "4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "4"]


def test_an_error_comes_with_the_next_call_or_at_the_end(tmp_path: Path) -> None:
    """In the words of the foreground."""
    missing = tmp_path / "file" / "a.safetensors"
    (tmp_path / "file").write_text("no folder")
    messages = []
    for background in (False, True):
        with pytest.raises(HectocarError) as caught, TensorWriter(background) as writer:
            writer.save(missing, {"a": torch.zeros(1)}, {})
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    with TensorWriter(background=True) as writer:
        writer.save(missing, {"a": torch.zeros(1)}, {})
        with pytest.raises(HectocarError):
            writer.save(tmp_path / "b", {"a": torch.zeros(1)}, {})
        assert not (tmp_path / "b").exists(), "nothing comes after a file that failed"


def test_an_error_of_the_callers_own_comes_through(tmp_path: Path) -> None:
    """A file that failed meanwhile does not hide it."""

    def work() -> None:
        with TensorWriter(background=True) as writer:
            writer.save(tmp_path / "no folder" / "a", {"a": torch.zeros(1)}, {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_only_a_gpu_is_saved_from_in_the_background(tmp_path: Path) -> None:
    for device, expected in (("cpu", False), ("cuda:1", True)):
        with TensorWriter.for_device(torch.device(device)) as writer:
            assert (writer._pool is not None) == expected
