"""The web page of the server in a headless Chromium: it translates, and anyone can use it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.serving_stand_in import RunningServer, run_server, shifted

playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=60_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = Path("nllb/serving/page")
MAX_BYTES = 150_000
TIMEOUT_MS = 60_000

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
    context.set_default_timeout(TIMEOUT_MS)
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
    playwright.expect(page.locator(selector)).to_have_text(text, timeout=TIMEOUT_MS)


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
    assert page.inner_text("#error") == "Busy. Trying again in 10 s."
    page.unroute("**/v1/translate")


def test_a_busy_server_is_asked_again(page, server) -> None:
    busy = {"error": {"code": "busy", "message": "the server is busy"}}
    answers = [json.dumps(busy)]

    def answer(route) -> None:
        if answers:
            route.fulfill(status=429, headers={"Retry-After": "5"}, body=answers.pop())
        else:
            route.continue_()

    page.route("**/v1/translate", answer)
    page.goto(f"{server.url}/#source=en&target=fr&q=Hello")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "The server is busy. Trying again in 5 s."
    expect(page, "#output", shifted("Hello", "fra_Latn"))
    assert page.is_hidden("#error")


def test_a_lost_connection_keeps_the_text_and_goes_on(page, server) -> None:
    open_page(page, server, "Hello.")
    page.context.set_offline(True)
    page.fill("#source-text", "The network is gone.")
    page.wait_for_selector("#error:not([hidden])")
    assert "offline" in page.inner_text("#error") and "still here" in page.inner_text("#error")
    check_accessibility(page)
    page.context.set_offline(False)
    expect(page, "#output", shifted("The network is gone.", "fra_Latn"))
    assert page.is_hidden("#error")


def test_a_server_that_starts_late_is_found(page, server) -> None:
    page.route("**/v1/**", lambda route: route.abort())
    page.goto(f"{server.url}/#source=en&target=fr&q=Hello")
    page.wait_for_selector("#error:not([hidden])")
    assert "cannot be reached" in page.inner_text("#error")
    page.unroute("**/v1/**")
    expect(page, "#output", shifted("Hello", "fra_Latn"))
    expect(page, "#target-language", "French")


def test_what_a_direction_is_good_for_is_said(page, server) -> None:
    page.route(
        "**/v1/models",
        lambda route: route.fulfill(
            json={"models": [{"name": "stand-in", "has_scores": True}], "features": {}}
        ),
    )
    scores = {"fra_Latn": (9, 60.0), "deu_Latn": (9, 4.0), "yor_Latn": (0, 30.0)}

    def answer(route) -> None:
        target = route.request.url.partition("target=")[2]
        pairs, score = scores[target]
        row = {"source": "eng_Latn", "target": target, "pairs": pairs, "chrf++": score}
        route.fulfill(json={"scores": [row]})

    page.route("**/v1/models/*/scores*", answer)
    said = {}
    for target in scores:
        page.goto("about:blank")
        open_page(page, server, "Hello.", target=target)
        playwright.expect(page.locator("#coverage")).to_contain_text("chrF++")
        warns = "warning" in (page.get_attribute("#coverage", "class") or "")
        said[target] = page.inner_text("#coverage"), warns
        check_accessibility(page)
    assert "mostly good" in said["fra_Latn"][0] and not said["fra_Latn"][1]
    assert "do not use it" in said["deu_Latn"][0] and said["deu_Latn"][1]
    assert "not trained on English to Yoruba" in said["yor_Latn"][0] and said["yor_Latn"][1]
    page.goto("about:blank")
    page.goto(f"{server.url}/#source=en&target=tlh&q=Hello.")
    playwright.expect(page.locator("#coverage")).to_contain_text("does not have the language tlh")
    expect(page, "#target-language", "Choose a language")
    expect(page, "#output", "")


def test_a_code_finds_its_language_first(page, server) -> None:
    open_page(page, server, "Hello.")
    page.keyboard.press("Alt+KeyL")
    page.keyboard.type("es")
    selected = page.inner_text("#picker-list li[aria-selected=true]")
    assert selected.startswith("Spanish")
    page.fill("#picker-search", "Klingon")
    assert "This model has no language of this name" in page.inner_text("#picker-list")


def test_a_file_is_translated_and_can_be_downloaded(page, server) -> None:
    page.goto(f"{server.url}/#source=en&target=fr")
    expect(page, "#target-language", "French")
    cats = {"name": "cats.txt", "mimeType": "text/plain", "buffer": b"Cats.\n"}
    page.set_input_files("#file", cats)
    with page.expect_download() as download:
        page.click("#files a")
    assert download.value.suggested_filename.endswith(".txt")
    assert Path(download.value.path()).read_text() == shifted("Cats.", "fra_Latn") + "\n"
    bad = {"name": "bad.docx", "mimeType": "application/x", "buffer": b"PK\xff"}
    page.set_input_files("#file", bad)
    playwright.expect(page.locator("#files p >> nth=1")).to_contain_text("bad.docx: ")
    playwright.expect(page.locator("#files p >> nth=1")).to_contain_text("not")


def test_the_page_is_small_and_complete() -> None:
    assert sum(path.stat().st_size for path in PAGE.iterdir()) <= MAX_BYTES
    for path in PAGE.iterdir():
        assert "http://" not in path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in path.read_text()
