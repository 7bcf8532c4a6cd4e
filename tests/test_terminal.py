"""Printing never fails and cannot act: names are shown escaped, markup is text, and a terminal's encoding is no obstacle."""

import ast
import errno
import io
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from rich.cells import cell_len

from hectocar.cli import main, terminal
from hectocar.cli.commands import COMMANDS
from hectocar.cli.commands.predict import describe_prediction
from hectocar.cli.terminal import ConsoleProgress, complain, format_table, print_table, say, visible
from hectocar.errors import DataError

NASTY = "a\x1b[31mb\u202ec\nd\re\tf\x9bg\udcffh\u200bi\u2028j\x00k\x7fl\u2066m"
ESCAPED = r"a\x1b[31mb\u202ec\nd\re\tf\x9bg\udcffh\u200bi\u2028j\x00k\x7fl\u2066m"


class Stream(io.TextIOWrapper):
    """A stream of some encoding, whose bytes can be looked at."""

    def __init__(self, encoding: str = "utf-8", tty: bool = False) -> None:
        self.bytes, self.tty = io.BytesIO(), tty
        super().__init__(self.bytes, encoding=encoding, newline="\n")

    def isatty(self) -> bool:
        return self.tty

    def text(self) -> str:
        self.flush()
        return self.bytes.getvalue().decode(self.encoding)


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.tries = error, 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise self.error


def test_what_acts_is_shown_and_not_sent() -> None:
    """Escape sequences, marks that turn the direction, line ends, C1, half surrogates: all visible, each once."""
    assert visible(NASTY) == ESCAPED
    assert visible("쏘나타 718_박스터 ё a\u3000b\xa0c 🚗") == "쏘나타 718_박스터 ё a\u3000b\xa0c 🚗"


@given(st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_nothing_that_is_printed_can_act(text: str) -> None:
    """Whatever a name holds, what is printed is printable, and only an indented line can follow the first."""
    shown = visible(text)
    for number, line in enumerate(shown.split("\n")):
        assert number == 0 or line.startswith("  ")
        assert all(character.isprintable() or unicodedata.category(character) == "Zs" for character in line)
    assert visible(shown) == shown
    shown.encode("utf-8")


def test_a_name_cannot_begin_a_line_of_its_own() -> None:
    """A message of several lines indents all but the first; another line end came with a name."""
    assert visible("2 mistakes:\n  one\n  two") == "2 mistakes:\n  one\n  two"
    assert visible("x\nhectocar: all is well") == "x\\nhectocar: all is well"
    assert visible("x\n\n  y") == "x\\n\n  y"


def test_messages_of_several_lines_indent_them() -> None:
    """No error that is raised anywhere begins a second line at the edge: it would be shown as an escape."""
    breaches = []
    for file in Path(terminal.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            for part in ast.walk(node) if isinstance(node, ast.Raise) else ():
                text = part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""
                if re.search(r"\n(?!  |$)", text):
                    breaches.append(f"{file.name}:{part.lineno}")  # type: ignore[attr-defined]
    assert breaches == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp949", "utf-8", "utf-16", "shift_jis"])
def test_every_encoding_takes_every_text(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal cannot show is escaped; results, messages, tables and notes alike."""
    out, err = Stream(encoding), Stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    say("박스터 ± é 🚗")
    complain("박스터 ± é 🚗")
    print_table([["name", "박스터 ±"], ["é", "1.0 ± 0.1"]])
    with ConsoleProgress() as progress:
        progress.start("쏘나타", 3)
        progress.advance(3)
        progress.note(f"쏘나타 {NASTY}")
    assert out.text().count("\n") == 3
    assert err.text().count("\n") == 2
    assert (r"\ubc15" in out.text()) == (encoding in ("ascii", "latin-1", "shift_jis"))
    assert (r"\xe9" in out.text()) == (encoding in ("ascii", "cp949", "shift_jis"))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "could not be printed (No space left on device)"),
        (OSError(errno.EIO, "Input/output error"), 2, "could not be printed (Input/output error)"),
        (ValueError("I/O operation on closed file"), 2, "could not be printed (I/O operation on closed file)"),
    ],
)
def test_a_stream_that_takes_nothing_stops_no_work(
    error: Exception, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command works to its end; a reader that left is no failure, a result that could not be printed is one."""
    out, err, done = Broken(error), Stream(), []
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(COMMANDS["config"], "run", lambda _: (say("1"), say("2"), done.append(True)))
    assert main(["config"]) == code
    assert done == [True]
    assert out.tries == 1
    assert words in err.text()
    assert bool(words) == bool(err.text())


def test_no_stream_at_all_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed before the start, both streams are None, or one breaks while the other says so."""
    for out, err in ((None, None), (Broken(OSError(5, "x")), Broken(OSError(5, "x")))):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with ConsoleProgress() as progress:
            progress.start("x", 2)
            progress.note("y")
        assert main(["config"]) == (0 if out is None else 2)
        assert main(["train"]) == 2
        assert main(["--help"]) in (0, 2)


def test_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """`a [new]` is printed as it is, in tables, results and notes; so are emoji codes and links."""
    names = ["a [new]", "[bold]x[/bold]", "[/red]", ":car:", "[link=http://x]y[/link]", "{x}", "%s", "\\[z]"]
    print_table([["variant", "log loss"], *([name, "1.0"] for name in names)])
    out = capsys.readouterr().out
    with ConsoleProgress() as progress:
        for name in names:
            say(name)
            progress.start(name, 1)
            progress.note(name)
    said = capsys.readouterr()
    for name in names:
        assert name in out
        assert name in said.out
        assert name in said.err


def test_bars_show_names_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal too: a bar's title is no markup, and its name cannot act."""
    monkeypatch.setenv("TERM", "xterm")
    err = Stream(tty=True)
    monkeypatch.setattr(sys, "stderr", err)
    with ConsoleProgress() as progress:
        progress.start("[red]\x1b[2Jx", 2)
        progress.advance(1)
        progress.note("note [/x]")
        progress.bars.refresh()
    assert r"[red]\x1b[2Jx" in err.text()
    assert "note [/x]" in err.text()


def test_a_table_has_a_line_a_row_where_nobody_looks() -> None:
    """Into a file or a pipe no row is folded or cut, however long: other programs read it by lines."""
    rows = [["key", "default", "meaning"], *([f"k{n}", str(n), "word " * 60] for n in range(5))]
    lines = format_table(rows, None)
    assert len(lines) == 6
    assert all(line.endswith(("meaning", "word word")) for line in lines)


def test_a_terminal_folds_the_last_column_and_cuts_nothing() -> None:
    """Words stay whole and under their column; a terminal too narrow for that gets whole lines that run over its edge."""
    rows = [["key", "meaning"], ["training.epochs", "Passes over the training photographs " * 4], ["b", "쏘나타 " * 20]]
    lines = format_table(rows, 60)
    assert all(cell_len(line) <= 60 for line in lines)
    assert [line[:17].strip() for line in lines if line[:17].strip()] == ["key", "training.epochs", "b"]
    assert " ".join(line[17:] for line in lines).split() == " ".join(row[1] for row in rows).split()
    narrow = format_table(rows, 20)
    assert len(narrow) == 3
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(cell.strip() for cell in row) for row in rows)


def test_numbers_stand_to_the_right_and_wide_letters_count_twice() -> None:
    """Columns stand one under the other on the screen."""
    lines = format_table([["name", "loss"], ["쏘나타", "1.25"], ["a", "-10.5"]], None)
    assert lines == ["name     loss", "쏘나타   1.25", "a       -10.5"]
    assert format_table([["a"]], None) == ["a"]
    assert format_table([["a", "b"], ["", ""]], 10) == ["a  b", ""]


def test_a_cell_with_line_ends_stays_a_cell() -> None:
    """A name cannot break a table."""
    assert format_table([["a", "b"], ["x\n  y", "1"]], None) == ["a       b", "x\\n  y  1"]


def test_config_and_plan_are_readable_at_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 20 columns to 300, on a terminal or not, every key and every epoch is there whole."""
    for tty, width in ((False, 80), (True, 20), (True, 80), (True, 160), (True, 300)):
        monkeypatch.setenv("COLUMNS", str(width))
        out = Stream(tty=tty)
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["config"]) == 0
        assert main(["plan", "--preset", "seed2025"]) == 0
        text = out.text()
        assert "training.sizes.0.learning_rate" in text
        assert any(line.split()[:3] == ["30", "768", "32"] for line in text.splitlines())
        assert "\x1b" not in text


def test_names_in_messages_and_notes_are_shown_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Error messages, progress notes and results go through the one writer."""

    def work(_: Any) -> None:
        with ConsoleProgress() as progress:
            progress.note(f"cannot be read: {NASTY}")
        say(f"{NASTY}: Kia 90%")
        raise DataError(f"{NASTY}: no such class")

    monkeypatch.setattr(COMMANDS["config"], "run", work)
    assert main(["config"]) == 2
    said = capsys.readouterr()
    assert said.out == f"{ESCAPED}: Kia 90%\n"
    assert said.err == f"cannot be read: {ESCAPED}\nhectocar: {ESCAPED}: no such class\n"
    assert main(["folds", f"{tmp_path}/{NASTY}".replace("\0", "")]) == 2
    assert said.err.count("\x1b") == 0


def test_a_prediction_shows_ids_and_names_escaped() -> None:
    """What predict prints a photograph."""
    line = visible(describe_prediction(["x\x1b]0;t\x07", "cannot be read: bad\nnews", *[""] * 5]))
    assert line == r"x\x1b]0;t\x07: cannot be read: bad\nnews"


def test_the_terminal_writes_where_the_streams_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that redirects sys.stdout gets what is printed from then on; what broke before is forgotten."""
    first, second = Broken(OSError(errno.ENOSPC, "full")), Stream()
    monkeypatch.setattr(sys, "stdout", first)
    say("lost")
    assert terminal.STDOUT.close_if_broken() == "full"
    monkeypatch.setattr(sys, "stdout", second)
    say("kept")
    assert second.text() == "kept\n"
