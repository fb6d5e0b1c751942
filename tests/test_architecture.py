from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vrseg"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Top to bottom: each layer may import those before it. `pipeline` and the stage folders do not know each other.
GROUND = {"version", "errors", "address", "frame", "orientation", "av_errors", "stage", "config", "backoff"}
STAGES = {
    "gpu",
    "demo",
    "source",
    "decode",
    "models",
    "preprocess",
    "infer",
    "postprocess",
    "track",
    "events",
    "render",
    "encode",
    "sink",
}
MACHINERY = {"pipeline", "telemetry"}
COMPOSITION = {
    "heap",
    "watching",
    "backend",
    "assembly",
    "bench",
    "doctor",
    "signals",
    "viewing",
    "server",
    "notify",
    "plan",
    "running",
    "lives",
    "fleet",
    "difference",
    "reload",
    "daemon",
    "job",
    "api",
    "blocking",
}
TOP = {"cli", "__main__", "__init__"}

GPU_LIBRARIES = {"cuda", "cupy", "tensorrt", "PyNvVideoCodec", "pynvml"}
HEAVY_LIBRARIES = {"av", "numpy", "onnx", "onnxruntime", "openvino", "pydantic", "rich", "aiohttp"} | GPU_LIBRARIES


def part_of(module: Path) -> str:
    """`vrseg/pipeline/channel.py` is of `pipeline`, `vrseg/daemon.py` of `daemon`."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imported(module: Path) -> frozenset[str]:
    """Dotted names of all that a module imports, also within functions and for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, f"{module}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def parts_imported(module: Path) -> set[str]:
    dotted = [name.split(".") for name in imported(module)]
    return {name[1] for name in dotted if name[0] == "vrseg" and len(name) > 1} - {part_of(module), "__version__"}


def roots_imported(module: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(module)}


def allowed_parts(part: str) -> set[str]:
    if part in GROUND:
        return GROUND
    if part in STAGES:
        return GROUND | STAGES
    if part in MACHINERY:
        return GROUND | MACHINERY
    below_top = GROUND | STAGES | MACHINERY | COMPOSITION
    return below_top if part in COMPOSITION else below_top | TOP


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_is_small_and_knows_its_place(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 300
    assert part_of(module) in GROUND | STAGES | MACHINERY | COMPOSITION | TOP, "a new part: name its layer above"
    assert parts_imported(module) <= allowed_parts(part_of(module))


def test_parts_do_not_import_each_other_in_circles() -> None:
    needs = {part: set[str]() for part in map(part_of, MODULES)}
    for module in MODULES:
        needs[part_of(module)] |= parts_imported(module)

    def reachable(part: str) -> set[str]:
        found: set[str] = set()
        todo = {part}
        while todo:
            todo = {inner for one in todo for inner in needs[one]} - found
            found |= todo
        return found

    assert not [part for part in needs if part in reachable(part)], "these parts need each other"


@pytest.mark.parametrize(
    "module", [module for module in MODULES if part_of(module) == "pipeline"], ids=lambda m: m.name
)
def test_the_machinery_knows_neither_codecs_nor_engines_nor_devices(module: Path) -> None:
    assert not roots_imported(module) & (HEAVY_LIBRARIES - {"numpy"})


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module.name == "cpu.py"], ids=lambda m: m.parent.name
)
def test_the_cpu_path_needs_no_gpu_library(module: Path) -> None:
    assert not roots_imported(module) & GPU_LIBRARIES


def test_only_the_configuration_reads_yaml_and_only_it_and_the_command_line_read_the_environment() -> None:
    assert {part_of(module) for module in MODULES if "yaml" in roots_imported(module)} == {"config"}
    readers = {part_of(module) for module in MODULES if reads_environment(module)}
    assert readers <= {"config", "cli"}


def reads_environment(module: Path) -> bool:
    """`os.environ.setdefault`, which tells a library something, is no reading."""
    text = module.read_text(encoding="utf-8")
    return "getenv" in text or text.count("os.environ") > text.count("os.environ.setdefault(")


def test_pydantic_stays_off_the_path_of_the_frame() -> None:
    users = {part_of(module) for module in MODULES if "pydantic" in roots_imported(module)}
    assert users <= {"config", "models", "server"}


def test_init_files_only_name_what_is_there() -> None:
    for module in MODULES:
        if module.name == "__init__.py":
            body = ast.parse(module.read_text(encoding="utf-8")).body
            kinds = {type(statement) for statement in body}
            allowed = {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.If}
            if module.parent == PACKAGE:
                allowed |= {ast.FunctionDef}  # __getattr__, so that the API loads when it is used
            assert kinds <= allowed, module


def test_importing_vrseg_loads_no_library() -> None:
    code = "import sys; import vrseg; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert not set(loaded.stdout.split()) & HEAVY_LIBRARIES


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True, cwd=ROOT)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_top_of_the_tree_holds_only_what_belongs_there() -> None:
    folders = {".ci", "configs", "scripts", "systemd", "tests", "vrseg"}
    files = {".gitignore", "ARCHITECTURE.md", "CHANGELOG.md", "Dockerfile", ".dockerignore", "LICENSE", "README.md"}
    top = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    assert top <= folders | files | {"pyproject.toml"}


def test_no_file_names_a_path_of_somebody_s_machine_or_leaves_work_undone() -> None:
    forbidden = ["/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/", "TO" + "DO", "FIX" + "ME", "XX" + "X"]
    for path in tracked_files():
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".service", ".html", ".jsonl", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [word for word in forbidden if word in text], path


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
