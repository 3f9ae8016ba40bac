"""Arguments that the verbs of stages have in common."""

import pytest

from nllb.cli import build_parser, read_verbs
from nllb.cli.stage_flags import needs_extra, parse_shard
from nllb.errors import ConfigError, ResourceError


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_a_shard_must_be_one_of_n(text: str) -> None:
    assert parse_shard("2/3") == (1, 3)
    with pytest.raises(ConfigError, match="I/N"):
        parse_shard(text)


def test_shards_are_counted_alike_by_every_verb() -> None:
    texts = {
        action.help
        for verb in read_verbs()
        for action in build_parser(verb)._actions
        if "--shard" in action.option_strings
    }
    assert len(texts) == 1 and "from 1" in texts.pop()


def test_a_missing_extra_is_named() -> None:
    message = r"mining needs not_there; run: pip install 'nllb\[data\]'"
    with pytest.raises(ResourceError, match=message), needs_extra("mining", "data"):
        import not_there  # noqa: F401
