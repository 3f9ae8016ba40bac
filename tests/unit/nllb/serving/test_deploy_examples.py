"""The examples of `docs/deploy`: they can be read, and every flag in them exists."""

import ast
import shlex
from pathlib import Path

import yaml

from nllb.cli import build_parser, find_verb, read_verbs
from nllb.cli.serve import read_settings
from nllb.serving.settings import ServerSettings

DEPLOY = Path(__file__).parents[4] / "docs" / "deploy"


def settings_of(words: list[str]) -> ServerSettings:
    verb = find_verb(words, read_verbs())
    assert verb is not None
    return read_settings(build_parser(verb).parse_args(words[1:]))


def test_compose() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["nllb"]
    settings = settings_of(shlex.split(service["command"]))
    assert settings.require_key and settings.keys.startswith("postgresql")
    assert settings.port == 5000 and service["ports"] == ["5000:5000"]


def test_kubernetes() -> None:
    parts = {
        each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    }
    spec = parts["Deployment"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    settings = settings_of(container["args"])
    assert settings.host == "0.0.0.0" and settings.require_key
    assert container["ports"][0]["containerPort"] == settings.port
    grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.shutdown_s + 5
    assert parts["Service"]["spec"]["selector"] == spec["selector"]["matchLabels"]


def test_systemd() -> None:
    lines = (DEPLOY / "nllb.service").read_text().splitlines()
    command = next(line for line in lines if line.startswith("ExecStart=")).split()
    settings = settings_of(command[1:])
    stop = next(line for line in lines if line.startswith("TimeoutStopSec=")).partition("=")[2]
    assert int(stop) > settings.shutdown_s


def test_nginx_names_real_flags() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    command = text.partition("nllb serve ")[2].partition("\n")[0]
    assert settings_of(["serve", *shlex.split(command)]).root_path == "/translate"


def test_ray_serve() -> None:
    tree = ast.parse((DEPLOY / "ray_serve.py").read_text())
    [call] = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ServerSettings"
    ]
    assert {keyword.arg for keyword in call.keywords} <= set(ServerSettings.model_fields)
