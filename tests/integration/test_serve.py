"""`nllb serve` with the bundled model, as a process: translation, restart, shutdown."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import deepl
import httpx
import pytest
from libretranslatepy import LibreTranslateAPI

from nllb.translation.translator import Translator

pytestmark = pytest.mark.slow
TEXT = "My mother buys bread. The old house is near the river."


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, "subprocess.Popen[str]", list[str]]]:
    command = [sys.executable, "-m", "nllb", "serve", "--port", "0", "--threads", "1", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log: list[str] = []
    url = ""
    for line in process.stderr:
        log.append(line)
        record = json.loads(line)
        url = record.get("url", url)
        if url:
            break
    try:
        yield url.rstrip("/"), process, log
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_bundled_model_through_all_clients(tmp_path: Path) -> None:
    expected = Translator.load("mini", detector="auto").translate(TEXT, "en", "de").text
    keys = str(tmp_path / "keys.sqlite")
    with serving("--model", "mini", "--keys", keys) as (url, process, log):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        api = LibreTranslateAPI(url + "/")
        assert api.translate(TEXT, "en", "de") == expected
        assert api.detect(TEXT)[0]["language"] == "en"
        command = ["serve", "keys", "add", "--keys", keys]
        made = subprocess.run(
            [sys.executable, "-m", "nllb", *command], capture_output=True, text=True, check=True
        )
        client = deepl.DeepLClient(made.stdout.strip(), server_url=url)
        assert client.translate_text(TEXT, source_lang="EN", target_lang="DE").text == expected
        found = client.translate_text(
            "My <b>mother</b> buys bread.", target_lang="DE", tag_handling="html"
        )
        assert found.text.count("<b>") == found.text.count("</b>") == 1
        assert client.get_usage().character.count >= len(TEXT)
        client.close()
        scores = httpx.get(f"{url}/v1/models/mini/scores?source=en&target=de").json()["scores"]
        assert scores[0]["pairs"] > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        lines = [*log, *process.stderr.readlines()]
    text = "".join(lines)
    assert "mother" not in text and "Mutter" not in text and "Traceback" not in text
    assert {json.loads(line)["level"] for line in lines} == {"info"}


def test_an_address_in_use_is_one_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "nllb", "serve", "--port", port]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1 and "--port" in found.stderr and "Traceback" not in found.stderr
