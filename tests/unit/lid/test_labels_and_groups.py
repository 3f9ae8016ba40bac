import pytest

from lid.groups import group_of_language, macro_groups
from lid.labels import map_label, map_labels
from nllb.languages import languages


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("eng_Latn", "eng_Latn"),
        ("cmn_Hani", "zho_Hans"),
        ("cmn_Hant", "zho_Hant"),
        ("ekk_Latn", "est_Latn"),
        ("fil_Latn", "tgl_Latn"),
        ("en", "eng_Latn"),
        ("pt", "por_Latn"),
        ("tlh_Latn", "tlh_Latn"),
        ("eng_Cyrl", "eng_Cyrl"),
        ("other_tlh", "other_tlh"),
        ("no such label", "no such label"),
    ],
)
def test_labels_are_mapped_and_unknown_labels_kept(label: str, code: str) -> None:
    assert map_label(label) == code


def test_codes_of_the_table_map_to_themselves() -> None:
    codes = [language.code for language in languages()]
    mapped, unknown = map_labels(codes)
    assert list(mapped) == codes and unknown == ()


def test_groups_are_disjoint() -> None:
    groups = macro_groups()
    assert {"arabic", "persian", "chinese"} <= {group.name for group in groups}
    assert group_of_language()["acm_Arab"] == group_of_language()["ars_Arab"] == "arabic"
    assert all(0 <= group.weight <= 1 and len(group.members) > 1 for group in groups)
