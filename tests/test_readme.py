"""
README against the program: settings, exit codes, commands. `python -m tests.test_readme` rewrites its table of settings.
"""

import re
from pathlib import Path

import pytest

from flows.commands import parser
from flows.narration.errors import ExitCode
from flows.settings import Settings

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- settings: made from flows/settings.py; a test holds it to that -->\n", "<!-- /settings -->"


def _table() -> str:
    """
    Every knob with its option, its default and its sentence.
    """
    rows = ["| option | default | what it is |", "|---|---|---|"]
    for name, knob in Settings.model_fields.items():
        option = "SCRIPTS" if name == "scripts" else f"`--{name.replace('_', '-')}`"
        default = "" if knob.is_required() or knob.default in (None, []) else f"`{knob.default}`"
        rows.append(f"| {option} | {default} | {knob.description} |")
    return "\n".join(rows) + "\n"


def test_the_table_of_settings_is_the_programs() -> None:
    """
    A knob that was added, renamed or given another default is in README.
    """
    told = README.read_text().partition(BEGIN)[2].partition(END)[0]

    assert _table() == told


def test_exit_codes_are_documented() -> None:
    """
    Every code a command can return stands in README's table.
    """
    table = README.read_text().partition("| exit | meaning |")[2].partition("\n\n")[0]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}

    assert {int(code) for code in ExitCode} == told


@pytest.mark.parametrize("command", re.findall(r"^\| `narrate (\w+)", README.read_text(), re.MULTILINE))
def test_every_command_in_readme_is_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    README names no command that does not exist.
    """
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([command, "--help"])

    assert ended.value.code == 0
    assert f"narrate {command}" in capsys.readouterr().out


def test_every_command_is_in_readme() -> None:
    """
    No command hides.
    """
    commands = re.findall(r"^    (\w+) ", parser().format_help(), re.MULTILINE)

    assert set(commands) == set(re.findall(r"^\| `narrate (\w+)", README.read_text(), re.MULTILINE))


if __name__ == "__main__":
    text = README.read_text()
    README.write_text(text.partition(BEGIN)[0] + BEGIN + _table() + END + text.partition(END)[2])
