"""The compose files fit each other, the Dockerfile, the commands and the settings; no engine starts them here."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from app.cli import app
from app.settings import Settings

ROOT = Path(__file__).parents[1]
STAGES = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
# What the file's own text asks of its user, not settings.
ASKED = {"FORERANK_DATA", "FORERANK_MODELS", "FORERANK_PUBLISHED_PORT"}


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return document


SERVICES: dict[str, dict[str, Any]] = read("docker-compose.yml")["services"]


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_what_a_service_names_is_there(service: dict[str, Any]) -> None:
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    named = {mount.partition(":")[0] for mount in service.get("volumes", []) if re.match(r"\w", mount)}
    assert named <= set(read("docker-compose.yml")["volumes"])
    assert service.get("build", {}).get("target", "api") in STAGES


def test_services_wait_for_states_that_come() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert (wait["condition"], SERVICES[name]["restart"]) == ("service_completed_successfully", "no")


def test_devices_are_added_to_a_service_that_is_there() -> None:
    added = read("docker-compose.gpu.yml")["services"]
    assert set(added) <= set(SERVICES)
    assert all("ARG TORCH_INDEX" in (ROOT / "Dockerfile").read_text() for _ in added)


def test_variables_are_settings() -> None:
    text = "".join((ROOT / name).read_text() for name in ("docker-compose.yml", "docker-compose.gpu.yml", "Dockerfile"))
    known = {f"FORERANK_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"FORERANK_[A-Z_]+", text)) <= known | ASKED


def test_commands_are_those_of_the_program() -> None:
    commands = [service["command"] for service in SERVICES.values() if "command" in service]
    commands += [yaml.safe_load(words) for words in re.findall(r"^CMD (.*)$", (ROOT / "Dockerfile").read_text(), re.M)]
    assert len(commands) == 3
    for name, *words in commands:
        assert name == "forerank"
        command: Any = typer.main.get_command(app)
        while words and not words[0].startswith("-"):
            command = command.commands[words.pop(0)]
        assert set(words) <= {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
