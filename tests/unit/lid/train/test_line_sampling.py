import random

from lid.train.lid_config import SamplingConfig
from lid.train.line_sampling import sample_label

DOMAINS = {
    "prose": [f"prose of some number{'x' * number}" for number in range(100)],
    "interface": [f"button of some number{'x' * number}" for number in range(100)],
}


def messages_in(domains: dict[str, list[str]], weight: float) -> int:
    config = SamplingConfig(message_weight=weight, join_rate=0)
    lines = sample_label(domains, 100, config, random.Random(1), ["interface"])
    assert 98 <= len(lines) <= 102
    return sum(line.startswith("button") for line in lines)


def test_interface_messages_get_less_weight_than_other_text() -> None:
    assert messages_in(DOMAINS, 1.0) == 50
    assert messages_in(DOMAINS, 0.25) == 20


def test_label_with_nothing_else_is_trained_on_interface_messages() -> None:
    assert messages_in({"interface": DOMAINS["interface"], "prose": []}, 0.25) == 100
