"""Laws of the house, read from the source itself: which room may know which, who may print, and how long a file may be."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import hectocar

SOURCE = Path(hectocar.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
# In the order in which data walks through them: a room may import itself and what stands above it.
ROOMS = (
    "errors",
    "progress",
    "allocator",
    "tables",
    "disk",
    "codec",
    "config",
    "presets",
    "contest",
    "photos",
    "dataset",
    "pages",
    "results",
    "showroom",
    "network",
    "scoring",
    "calibration",
    "training",
    "delivery",
    "finishing",
    "auditing",
    "lab",
    "verbs",
    "cli",
)
DOORS = ("__init__", "__main__")  # the package's two entrances belong to no room
DISK_TO_LOSS = (
    "training/step.py",
    "training/loader.py",
    "photos/decode.py",
    "training/draws.py",
    "training/augment.py",
    "training/sampler.py",
    "network/carnet.py",
    "network/arcface.py",
)


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"), filename=str(file))


def module_of(file: Path) -> str:
    """Dotted name of a file."""
    return ".".join(("hectocar", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def room_of(module: str) -> str:
    """`hectocar.photos.decode` -> `photos`; the package itself is `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(file: Path, *, inside_functions: bool = True) -> set[str]:
    """All modules that a file imports, `from a import b` as both a and a.b, because b may be a module."""
    found: set[str] = set()
    nodes = ast.walk(parse(file)) if inside_functions else iter(parse(file).body)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            found |= {f"{node.module}"} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "hectocar"}


def files_of(room: str) -> list[Path]:
    return [file for file in FILES if room_of(module_of(file)) == room]


def test_every_file_stands_in_a_known_room() -> None:
    """A new room is put into the order by a person, who thereby says what it may know."""
    assert {room_of(module_of(file)) for file in FILES} - {*ROOMS, *DOORS} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room: str) -> None:
    """Knowledge flows one way: photographs and network know nothing of training, and nobody knows the command line."""
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    breaches = {
        f"{module_of(file)} imports {name}"
        for file in files_of(room)
        for name in own(imports_of(file))
        if name != "hectocar" and room_of(name) not in allowed
    }
    assert breaches == set()


def test_delivery_knows_nothing_of_training() -> None:
    """What is served is what was validated: no file of delivery reaches training, directly or through another module."""
    assert files_of("delivery")
    for file in files_of("delivery"):
        assert {name for name in reachable(module_of(file)) if room_of(name) == "training"} == set()


def file_of(module: str) -> Path | None:
    """The source of one of our modules or packages; None for a name inside a module."""
    base = SOURCE.joinpath(*module.split(".")[1:])
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def reachable(module: str) -> set[str]:
    """All that importing a module loads, its parent packages included: ours, and the names of others."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name == "hectocar":  # its entrance loads Classifier on demand only
            continue
        seen.add(name)
        file = file_of(name) if name.startswith("hectocar.") else None
        waiting += [name.rpartition(".")[0], *imports_of(file)] if file else []
    return seen


def test_scoring_needs_no_torch() -> None:
    """Figures can be computed where torch is not installed: neither the source nor the running program loads it."""
    modules = [module_of(file) for file in files_of("scoring")]
    assert {"hectocar.scoring.submission", "hectocar.scoring.metrics", "hectocar.scoring.truth"} <= set(modules)
    heavy = ("torch", "torchvision", "timm", "safetensors")
    for module in modules:
        assert {name for name in reachable(module) if name.split(".")[0] in heavy} == set()
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True, text=True)
    assert set(heavy) & set(result.stdout.split()) == set()


def test_the_command_line_loads_torch_late() -> None:
    """`hectocar --help` answers at once: heavy rooms are imported inside the commands only."""
    at_the_top = imports_of(SOURCE / "cli" / "command_line.py", inside_functions=False)
    assert {name for top in own(at_the_top) for name in reachable(top) if name.split(".")[0] in ("torch", "timm")} == set()


def test_only_the_terminal_prints() -> None:
    """Rooms return values and report progress; print, rich and the streams belong to terminal.py, where printing cannot fail.

    Only the command line may call what that room offers.
    """
    breaches = []
    for file in FILES:
        imports = imports_of(file)
        if room_of(module_of(file)) != "cli":
            breaches += [f"{file}: terminal" for name in imports if name.startswith("hectocar.cli.terminal")]
        if file == SOURCE / "cli" / "terminal.py":
            continue
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
                breaches.append(f"{file}:{node.lineno}: {node.func.id}")
            if isinstance(node, ast.Attribute) and re.fullmatch(r"sys\.(__)?std(out|err)(__)?", ast.unparse(node)):
                breaches.append(f"{file}:{node.lineno}: {node.attr}")
        breaches += [f"{file}: {name}" for name in imports if name.split(".")[0] == "rich"]
    assert breaches == []


def count_lines(file: Path) -> int:
    return len(file.read_text("utf-8").splitlines())


def test_disk_to_loss_is_short() -> None:
    """The way of a photograph from the disk to the loss can be read in seven files and 1,600 lines."""
    lines = {name: count_lines(SOURCE / name) for name in DISK_TO_LOSS}
    assert sum(lines.values()) <= 1600, lines


def test_no_file_is_long() -> None:
    """A file fits into a head: 400 lines at most."""
    assert {module_of(file): count_lines(file) for file in FILES if count_lines(file) > 400} == {}


def test_no_file_from_elsewhere_can_run_code() -> None:
    """A checkpoint is data: no pickle, torch.load with weights_only only, YAML with a safe loader only."""
    breaches = []
    for file in FILES:
        breaches += [f"{file}: {name}" for name in imports_of(file) if name.split(".")[0] in ("pickle", "dill", "joblib")]
        for node in ast.walk(parse(file)):
            if not isinstance(node, ast.Call):
                continue
            called, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called == "torch.load" and keywords.get("weights_only") != "True":
                breaches.append(f"{file}:{node.lineno}: torch.load without weights_only=True")
            if called in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False":
                breaches.append(f"{file}:{node.lineno}: np.load with allow_pickle")
            if called == "yaml.load" and keywords.get("Loader") != "_Loader":
                breaches.append(f"{file}:{node.lineno}: yaml.load without the safe loader")
            if called in ("eval", "exec", "os.system"):
                breaches.append(f"{file}:{node.lineno}: {called}")
    assert breaches == []
