"""Models of the hub, fetched from a server on this machine into the library's cache."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from nllb.errors import CheckpointError, ResourceError
from nllb.model.configuration import ModelConfig
from nllb.model.formats.open_model import open_model
from nllb.model.hub import is_hub_name
from nllb.model.listing import list_model

NAME = "someone/tiny-nllb"


@pytest.fixture(scope="module")
def model_dir(vocabulary, randomize, tmp_path_factory) -> Path:
    from nllb.model.formats.hugging_face import write_hugging_face
    from nllb.model.tokenizer import Tokenizer
    from nllb.model.transformer import Transformer

    config = ModelConfig(
        vocabulary_size=2206,
        model_dim=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_heads=2,
        decoder_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
    )
    path = tmp_path_factory.mktemp("hub") / "model"
    tokenizer = Tokenizer.build(vocabulary)
    state = Transformer(config).state_dict()
    write_hugging_face(path, config, state, tokenizer, settings={}, max_shard_bytes=71_000)
    (path / "flax_model.msgpack").write_bytes(b"not needed" * 1000)
    return path


@pytest.fixture
def hub(model_dir) -> Iterator[Any]:
    serve = run_path(str(Path(__file__).parents[3] / "hub_server.py"))["serve"]
    with serve(model_dir, [NAME]) as served:
        yield served


@pytest.fixture
def cache(hub, tmp_path, monkeypatch) -> Path:
    """Point the library, which reads its environment once, to this server and an empty cache."""
    from huggingface_hub import constants, file_download

    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "hub"


def test_download_then_cache(hub, cache, capsys) -> None:
    with pytest.raises(CheckpointError, match=f"{NAME} is not in the cache"):
        open_model(NAME, offline=True)
    assert hub.log == []
    first = open_model(NAME)
    assert first.config.vocabulary_size == 2206
    assert len(first.tokenizer().languages) == 202
    assert cache in first.path.parents
    said = capsys.readouterr().err
    assert f"downloading {NAME}: " in said
    assert "licence of the weights: cc-by-sa-4.0" in said
    fetched = {line.rpartition("/")[2] for line in hub.log if line.startswith("GET")}
    assert "model-00001-of-00002.safetensors" in fetched
    assert "flax_model.msgpack" not in fetched

    hub.log.clear()
    assert open_model(NAME).path == first.path
    assert open_model(NAME, offline=True).path == first.path
    assert hub.log == []  # the cache is whole: the network is not asked
    assert list_model(NAME).state == "cached"
    assert "downloading" not in capsys.readouterr().err


def test_a_cache_in_part_is_completed(hub, cache) -> None:
    path = open_model(NAME).path
    (path / "model-00002-of-00002.safetensors").unlink()
    hub.log.clear()
    with pytest.raises(CheckpointError, match="is only partly in the cache"):
        open_model(NAME, offline=True)
    assert hub.log == []
    assert open_model(NAME).path == path


def test_what_the_hub_does_not_have(hub, cache, model_dir, monkeypatch) -> None:
    with pytest.raises(CheckpointError, match="the hub has no model someone/else"):
        open_model("someone/else")
    monkeypatch.setattr(hub, "folder", model_dir.parent)
    with pytest.raises(CheckpointError, match="not a model in safetensors or torch format"):
        open_model(NAME)


def test_a_disk_too_small_is_told_before_the_download(hub, cache, monkeypatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match="10 B are free"):
        open_model(NAME)
    assert not any("resolve" in line for line in hub.log)


@pytest.mark.parametrize("offline", ["1", "0"])
def test_the_environment_is_honoured(offline, tmp_path) -> None:
    """In a process of its own, with a server that does not answer: an error of one line."""
    code = (
        "import sys\n"
        "from nllb.errors import CheckpointError\n"
        "from nllb.model.hub import fetch\n"
        "try:\n"
        f"    fetch({NAME!r})\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    place = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **place, "HF_HUB_OFFLINE": offline},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = "is not in the cache" if offline == "1" else "cannot be downloaded from the hub: "
    assert done.stdout.startswith(f"{NAME} {expected}")
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("facebook/nllb-200-3.3B", True),
        ("nllb-200-3.3B", False),
        ("./models/a", False),
        ("/models/a", False),
        ("a/b/c", False),
        ("../a", False),
    ],
)
def test_hub_names(name, is_one) -> None:
    assert is_hub_name(name) == is_one
