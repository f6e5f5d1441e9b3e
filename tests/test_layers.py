"""
Who may import what: see "The house" in README.
"""

import ast
from pathlib import Path

import pytest

FLOWS = Path(__file__).parents[1] / "flows"
MODULES = sorted(FLOWS.rglob("*.py"))

HOMES = {
    "prefect": {
        "narrate.py",
        "audiobook.py",
        "clone_voice.py",
        "tasks.py",
        "steps.py",
        "reporting.py",
        "running.py",
        "history.py",
        "studio.py",
        "marks.py",
        "stopping.py",
        "credentials.py",
        "showing.py",
        "deploying.py",
        "working.py",
        "approval.py",
        "telling.py",
        "webhook.py",
        "alerts.py",
        "watch.py",
        "account_limit.py",
        "endings.py",
        "fleet.py",
        "library.py",
        "library_steps.py",
        "names.py",
        "schedules.py",
    },
    "standardwebhooks": {"webhook.py"},
    "watchfiles": {"watch.py"},
    "fishaudio": {"narration/speech.py"},
    "fsspec": {"narration/storage.py"},
    "s3fs": set(),
    "subprocess": {"narration/ffmpeg/process.py", "studio.py"},
    "pydub": {"narration/reference/normalize.py"},
    "imageio_ffmpeg": {"narration/ffmpeg/process.py"},
    "lxml": {"narration/books/markup.py"},
    "zipfile": {"narration/books/archive.py"},
    "pysubs2": {"narration/captions.py"},
}
"""What comes from outside, and the only modules that may import it."""


def _imports(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively; Prefect would load a second copy"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(FLOWS).as_posix())
def test_each_outside_thing_has_one_door(module: Path) -> None:
    """
    A library with a door is imported there alone.
    """
    here = module.relative_to(FLOWS).as_posix()

    for thing, homes in HOMES.items():
        if here not in homes:
            assert not [name for name in _imports(module) if _inside(name, thing)]


@pytest.mark.parametrize("module", sorted((FLOWS / "narration").rglob("*.py")), ids=lambda path: path.stem)
def test_the_plain_floor_never_looks_up(module: Path) -> None:
    """
    Downstairs knows neither the flows nor the settings nor the sandbox.
    """
    ours = {name for name in _imports(module) if _inside(name, "flows") and name != "flows"}

    assert not {name for name in ours if not _inside(name, "flows.narration")}


@pytest.mark.parametrize("module", sorted((FLOWS / "sandbox").rglob("*.py")), ids=lambda path: path.stem)
def test_the_sandbox_imports_nothing_of_the_rest(module: Path) -> None:
    """
    The stand-in could be a project of its own.
    """
    assert not {name for name in _imports(module) if _inside(name, "flows") and not _inside(name, "flows.sandbox")}


OUTSIDE = [path for path in MODULES if not path.is_relative_to(FLOWS / "sandbox")]


@pytest.mark.parametrize("module", OUTSIDE, ids=lambda path: path.stem)
def test_nothing_imports_the_sandbox_but_the_command_that_starts_it(module: Path) -> None:
    """
    The pipeline cannot know which service it talks to.
    """
    if module.name != "commands.py":
        assert not {name for name in _imports(module) if _inside(name, "flows.sandbox")}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(FLOWS).as_posix())
def test_only_settings_reads_the_environment(module: Path) -> None:
    """
    A knob that hides in the environment elsewhere would be in no table and no help.
    """
    if module.name != "settings.py":
        tree = ast.walk(ast.parse(module.read_text()))
        assert not [node for node in tree if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")]


def test_no_module_hides_a_standard_one() -> None:
    """
    A file-path entrypoint would put flows/ on the path, where `import wave` must still mean Python's.
    """
    import sys

    names = {path.stem for path in (*FLOWS.glob("*.py"), *(FLOWS / "narration").glob("*.py"))} - {"__init__", "__main__"}

    assert not names & (set(sys.stdlib_module_names) | {"prefect", "pydub", "fishaudio", "markdown", "soundfile"})
