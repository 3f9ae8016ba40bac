import base64
import hashlib
import json
import re
import zlib

import numpy as np
import pytest
from markupsafe import Markup

from nllb.io.page import (
    Axis,
    Column,
    HeatMapLayer,
    Page,
    definitions,
    details,
    encode_scores,
    heat_map,
    notice,
    paragraph,
    redacted,
    table,
)

AXIS = Axis(
    labels=["eng_Latn", "fra_Latn"],
    titles=["English", "French"],
    levels=["high", "high"],
    groups={"script": ["Latn", "Latn"]},
)
SCORES = np.array([[np.nan, 50.5], [41.25, np.nan]])


def whole_page() -> str:
    page = Page("Report <of> tests", subtitle="a & b")
    page.add("Verdict", "plain <b>text</b>", notice("Mind", ["<i>"], kind="warning"))
    page.add("Verdict", heat_map(AXIS, [HeatMapLayer(name="chrF++", values=SCORES)], caption="All"))
    page.add("More", redacted("secret"), details("Open", paragraph("x")), definitions([("a", "<")]))
    return page.render()


def test_text_is_escaped_and_markup_stays():
    html = whole_page()
    assert "plain &lt;b&gt;text&lt;/b&gt;" in html
    assert "<title>Report &lt;of&gt; tests</title>" in html
    assert "<li>&lt;i&gt;</li>" in html
    assert "<dd>&lt;</dd>" in html


def test_policy_allows_exactly_the_scripts_and_styles_inside():
    html = whole_page()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1)
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{element}>(.*?)</{element}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_nothing_points_outside_the_file():
    html = whole_page()
    addresses = re.findall(r'(?:src|href|action|url)\s*[=(]\s*"?([^")>\s]+)', html)
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses), addresses
    assert " style=" not in html  # the policy forbids style attributes
    assert not re.search(r"\son[a-z]+=", html)


def test_anchors_are_unique_and_linked():
    html = whole_page()
    anchors = re.findall(r'<section id="([^"]+)"', html)
    assert anchors == ["verdict", "verdict-2", "more"]
    assert re.findall(r'<li><a href="#([^"]+)"', html) == anchors


def test_table_cells_sort_by_value_and_show_missing_ones():
    columns = [
        Column(title="Code", kind="code"),
        Column(title="Change", kind="number", signed=True),
    ]
    rows = [("<x>", 1234.56), (Markup("<b>y</b>"), -0.04), ("z", None), ("w", float("nan"))]
    html = table(columns, rows, caption="Changes", filterable=True)
    assert '<td class="code" dir="auto">&lt;x&gt;</td>' in html
    assert "<b>y</b>" in html
    assert '<td class="number better" data-value="1234.56">+1,234.6</td>' in html
    assert '<td class="number" data-value="-0.04">-0.0</td>' in html  # too small to be coloured
    assert html.count('data-value="">\u2013<') == 2
    (identifier,) = re.findall(r'<table id="([^"]+)"', html)
    assert f'data-filter="{identifier}"' in html


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        table([Column(title="a"), Column(title="b")], [("one",)], caption="x")


def test_scores_survive_the_16_bit_form():
    values = np.array([[0.0, 99.99], [np.nan, 12.345]])
    cells = np.frombuffer(base64.b64decode(encode_scores(values)), dtype="<u2")
    assert cells.tolist() == [0, 9999, 65535, 1234]
    with pytest.raises(ValueError, match="does not fit"):
        encode_scores(np.array([[-0.5]]))


def test_heat_map_carries_its_data_and_a_picture():
    html = heat_map(AXIS, [HeatMapLayer(name="chrF++ </script>", values=SCORES)], caption="All")
    payload = re.search(r'<script type="application/json" id="([^"]+)">(.*?)</script>', html, re.S)
    specification = json.loads(payload.group(2))
    assert specification["layers"][0]["name"] == "chrF++ </script>"
    assert f'data-spec="{payload.group(1)}"' in html
    png = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", html).group(1))
    assert png.startswith(b"\x89PNG")
    data = png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8]
    assert zlib.decompress(data) == bytes([0, 0, 255, 0, 40, 0])
    with pytest.raises(ValueError, match="not"):
        heat_map(AXIS, [HeatMapLayer(name="x", values=np.zeros((3, 3)))], caption="All")


def test_saved_page_is_the_rendered_one(tmp_path):
    page = Page("Title", language="de")
    page.add("One", "text")
    size = page.save(tmp_path / "new" / "page.html")
    text = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert text == page.render()
    assert size == len(text.encode())
    assert '<html lang="de">' in text
