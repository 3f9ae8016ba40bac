"""Parts of signatures are read, changed and merged by name."""

import pytest

from eval.metrics.signature import merge_signatures, parse_signature, with_part

BLEU = "nrefs:1|case:mixed|eff:no|tok:spm:flores200|spm-sha256:12|unverified|version:2.6.0"


def test_the_name_of_a_part_ends_at_its_first_colon() -> None:
    parts = parse_signature(BLEU)
    assert parts["tok"] == "spm:flores200" and parts["unverified"] == ""


def test_a_part_gets_another_value() -> None:
    changed = with_part(with_part(BLEU, "nrefs", 3), "case", "lc")
    assert changed == BLEU.replace("nrefs:1", "nrefs:3").replace("case:mixed", "case:lc")
    with pytest.raises(ValueError, match="no part 'nref'"):
        with_part(BLEU, "nref", 2)


def test_merged_signatures_list_all_values_once() -> None:
    assert (
        merge_signatures(["nrefs:1|tok:13a", "nrefs:1|tok:zh|unverified", "nrefs:1|tok:13a"])
        == "nrefs:1|tok:13a,zh|unverified"
    )
