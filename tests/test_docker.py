"""
Dockerfile and compose.yaml, which cannot be run here: what they copy and run is there, and they agree with the rest.

`make check` lints the one with hadolint, and holds the other to the schema of Compose.
"""

import json
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from flows.commands import parser
from flows.settings import PREFECT
from tests.conftest import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def dockerfile(tmp_path: Path) -> DockerfileParser:
    """
    The Dockerfile, parsed; of a copy, for the parser writes.
    """
    shutil.copy(ROOT / "Dockerfile", tmp_path)
    return DockerfileParser(str(tmp_path))


def _all(dockerfile: DockerfileParser, instruction: str) -> list[str]:
    return [each["value"] for each in dockerfile.structure if each["instruction"] == instruction]


def _copied(dockerfile: DockerfileParser) -> set[str]:
    """
    What is copied from the checkout.
    """
    parts = [shlex.split(value) for value in _all(dockerfile, "COPY")]
    return {name for words in parts if not words[0].startswith("--from") for name in words[:-1]}


def test_what_is_copied_is_there_and_not_ignored(dockerfile: DockerfileParser) -> None:
    """
    .dockerignore leaves out all but what is copied.
    """
    copied = _copied(dockerfile)

    assert [] == [name for name in copied if not (ROOT / name).exists()]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == kept


def test_all_that_the_wheel_is_made_of_is_copied(dockerfile: DockerfileParser) -> None:
    """
    A file that the build needs and the image's build has not would end it, there.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], *project["project"]["license-files"]}

    assert needed | {"pyproject.toml", "constraints.txt"} == _copied(dockerfile)


def test_the_image_runs_as_nobody_special(dockerfile: DockerfileParser) -> None:
    """
    Neither as root nor from an entrypoint of its own, which a docker pool's commands would go to.
    """
    assert ["1000:1000"] == _all(dockerfile, "USER")
    assert "useradd --uid 1000 " in " ".join(_all(dockerfile, "RUN"))
    assert [] == _all(dockerfile, "ENTRYPOINT")
    assert 1 == len(_all(dockerfile, "HEALTHCHECK"))
    assert all(value.startswith("python:3.") and "-slim" in value for value in _all(dockerfile, "FROM"))


def test_the_image_sets_prefect_as_the_command_line_does(dockerfile: DockerfileParser) -> None:
    """
    Prefect's own commands read no settings of ours.
    """
    assert PREFECT.items() <= dockerfile.envs.items()


def _commands(dockerfile: DockerfileParser) -> dict[str, list[str]]:
    """
    Every command that is run when a container starts.
    """
    [cmd] = _all(dockerfile, "CMD")
    commands = {name: service["command"] for name, service in SERVICES.items() if "command" in service}
    return {"Dockerfile": json.loads(cmd), **commands}


def test_commands_are_there(dockerfile: DockerfileParser, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Ours are parsed by our parser, Prefect's asked for their help.
    """
    commands = _commands(dockerfile)
    assert {"Dockerfile", "server", "worker"} == set(commands)
    for name, (program, *arguments) in commands.items():
        if program == "narrate":
            assert callable(parser().parse_args(arguments).command), name
        else:
            assert "prefect" == program
            words = [word for word in arguments if not word.startswith("-")][:2]
            done = subprocess.run(
                [sys.executable, "-m", "prefect", *words, "--help"], capture_output=True, text=True, check=True, timeout=60
            )
            assert [] == [word for word in arguments if word.startswith("--") and word not in done.stdout]


def test_health_is_asked_for_where_it_is_told(dockerfile: DockerfileParser) -> None:
    """
    The image at the port that its command tells it at, the server at its API; both are Python that compiles.
    """
    [told] = _all(dockerfile, "HEALTHCHECK")
    asked = {"Dockerfile": json.loads(told[told.index("[") :]), "server": SERVICES["server"]["healthcheck"]["test"][1:]}

    ports = {}
    for name, (program, option, code) in asked.items():
        assert ("python", "-c") == (program, option)
        compile(code, name, "exec")
        address = urlsplit(code.split("'")[1])
        ports[name] = (address.port, address.path)
    assert {"Dockerfile": (8080, "/health"), "server": (4200, "/api/ready")} == ports
    assert "8080" == SERVICES["worker"]["command"][-1] == json.loads(_all(dockerfile, "CMD")[0])[-1]


def test_compose_agrees_with_itself() -> None:
    """
    Who is waited for tells of its health, volumes are declared, hosts are services, and nothing is open to the network.
    """
    for name, service in SERVICES.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert "service_healthy" == condition["condition"]
            assert "healthcheck" in SERVICES[needed], name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith(("$", "."))
        for address in service.get("environment", {}).values():
            host = urlsplit(address.replace("${STUDIO_PORT:-4200}", "4200").replace("${POSTGRES_PASSWORD}", "p")).hostname
            assert host in {None, "127.0.0.1", *SERVICES}
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert {f"narrate:{VERSION}"} == {service["image"] for service in SERVICES.values() if "build" in service}
    assert "image" in SERVICES["database"]
