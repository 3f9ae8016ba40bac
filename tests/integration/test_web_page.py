"""The web page of the server in a headless Chromium: it translates, and anyone can use it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.serving_stand_in import RunningServer, run_server, shifted

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = Path("nllb/serving/page")
MAX_BYTES = 150_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_server() as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[390, 768, 1280])
def page(request, browser, server):
    context = browser.new_context(viewport={"width": request.param, "height": 800})
    context.set_default_timeout(20_000)
    page = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda made: requests.append(made.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors
    assert all(address.startswith(server.url) for address in requests)


def open_page(page, server, text: str, *, source: str = "en", target: str = "fr") -> None:
    page.goto(f"{server.url}/#source={source}&target={target}&q={quote(text)}")
    page.wait_for_selector("#output span[data-segment]")


def expect(page, selector: str, text: str) -> None:
    """Wait for a text without scripts in the page, which its content security policy forbids."""
    playwright.expect(page.locator(selector)).to_have_text(text, timeout=20_000)


def check_accessibility(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert not found, [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found]


def test_a_text_is_translated_and_its_sentences_are_explained(page, server) -> None:
    text = "Good morning. Where is the library?"
    open_page(page, server, text)
    expect(page, "#output", shifted(text, "fra_Latn"))
    assert page.get_attribute("#output", "lang") == "fr"
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.focus("#output span[data-segment] >> nth=1")
    assert page.inner_text("#backdrop mark") == "Where is the library?"
    page.keyboard.press("Enter")
    page.wait_for_selector("#details-body button")
    check_accessibility(page)
    page.click("#details-body button >> nth=0")
    assert page.inner_text("#output").endswith(shifted("library?", "fra_Latn") + "'")


def test_languages_are_found_by_any_name_with_the_keyboard_alone(page, server) -> None:
    open_page(page, server, "Good morning.")
    page.keyboard.press("Alt+KeyL")
    page.keyboard.type("עבר")
    check_accessibility(page)
    page.keyboard.press("Enter")
    expect(page, "#target-language", "Hebrew")
    page.wait_for_selector("#output[dir=rtl]")
    page.keyboard.press("Alt+KeyS")
    expect(page, "#target-language", "English")
    assert page.input_value("#source-text") == shifted("Good morning.", "heb_Hebr")


def test_text_of_users_never_becomes_markup(page, server) -> None:
    text = "<img src=x onerror=alert(1)> & <b>bold</b>."
    open_page(page, server, text)
    assert page.query_selector("#output img, #output b, #backdrop img") is None
    assert "<b>" in page.input_value("#source-text")


def test_a_long_text_arrives_whole_and_a_newer_one_replaces_it(page, server) -> None:
    text = " ".join(f"This is sentence number {number}." for number in range(40))
    open_page(page, server, text)
    expect(page, "#output", shifted(text, "fra_Latn"))
    page.fill("#source-text", "Short now.")
    expect(page, "#output", shifted("Short now.", "fra_Latn"))
    page.click("#clear")
    expect(page, "#output", "")


def test_errors_of_the_server_are_shown(page, server) -> None:
    page.route("**/v1/translate", lambda route: route.fulfill(status=429, body='{"error": "busy"}'))
    page.goto(f"{server.url}/#source=en&target=fr&q=Hello")
    page.wait_for_selector("#error:not([hidden])")
    assert "busy" in page.inner_text("#error")
    page.unroute("**/v1/translate")


def test_the_page_is_small_and_complete() -> None:
    assert sum(path.stat().st_size for path in PAGE.iterdir()) <= MAX_BYTES
    for path in PAGE.iterdir():
        assert "http://" not in path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in path.read_text()
