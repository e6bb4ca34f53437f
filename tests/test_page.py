"""The page in a real browser: it annotates, shows text as text, fits a phone, goes by keyboard and in the dark."""

import json
import re
import shutil

import pytest

from serving import serving

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
if not (shutil.which("chromedriver") and shutil.which("chromium")):
    pytest.skip("Chromium and its driver are not installed", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PATIENCE = 600  # seconds that a browser may take on a busy machine


@pytest.fixture(scope="module")
def server(tagger):
    with serving(tagger) as one:
        yield one


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, server):
    browser.set_window_size(1000, 900)
    browser.get(f"http://127.0.0.1:{server.port}/")
    return browser


def annotate(page, text: str) -> None:
    """Replace the text and annotate it, with the keyboard alone."""
    field = page.find_element(By.ID, "text")
    page.execute_script("arguments[0].value = arguments[1]", field, text)
    field.send_keys(Keys.CONTROL, Keys.ENTER)
    WebDriverWait(page, PATIENCE).until(lambda _: "entit" in page.find_element(By.ID, "message").text)


def marks(page) -> list[str]:
    """The texts of the marked mentions, without their labels."""
    script = "return [...document.querySelectorAll('#shown mark')].map((mark) => mark.firstChild.textContent)"
    return page.execute_script(script)


def test_entities_are_shown_in_colour_with_type_and_score(page):
    annotate(page, "the patients of aspirin and 🙂 daily lung cancer")
    # The smiley is one character and two units of the browser's strings.
    assert [mark for mark in marks(page) if mark != "🙂"] == ["aspirin", "lung cancer"]
    shown = page.find_element(By.ID, "shown").text
    assert shown.startswith("the patients of aspirin") and "Drug" in shown
    rows = [row.text.split() for row in page.find_elements(By.CSS_SELECTOR, "#rows tr")]
    assert rows[0][:4] == ["aspirin", "Drug", "16", "23"] and 0.5 < float(rows[0][4]) <= 1
    colour = page.find_element(By.CSS_SELECTOR, "#shown mark").value_of_css_property("background-color")
    assert colour != "rgba(0, 0, 0, 0)"
    assert "tagger (Drug) on torch-fp32" in page.find_element(By.ID, "models").text


def test_entities_that_overlap_are_marked_within_each_other_and_no_text_is_repeated(page):
    text = "a bc de f"
    spans = [("Gene", 2, 7), ("Drug", 2, 4), ("Drug", 5, 9), ("Cell", 8, 9)]
    entities = [{"type": kind, "start": a, "end": b, "text": text[a:b], "score": 0.5} for kind, a, b in spans]
    page.execute_script("last = arguments[0]; show()", {"text": text, "entities": entities})
    script = (
        "const shown = document.getElementById('shown').cloneNode(true);"
        "shown.querySelectorAll('small').forEach((label) => label.replaceWith('<' + label.textContent + '>'));"
        "return shown.textContent"
    )
    assert page.execute_script(script) == "a bc<Drug 0.50> de<Gene 0.50> f<Cell 0.50><Drug 0.50>"
    for ends in ([(0, 10), (2, 10), (4, 15)], [(0, 10), (2, 12), (4, 15)], [(0, 10), (5, 12), (5, 12)]):
        crossing = [
            {**entities[0], "start": a, "end": b, "type": kind} for kind, (a, b) in zip("ABC", ends, strict=True)
        ]
        page.execute_script("last = arguments[0]; show()", {"text": "0123456789abcdef", "entities": crossing})
        shown = page.execute_script(script)
        assert re.sub("<.*?>", "", shown) == "0123456789abcdef"
        for kind, (_, end) in zip("ABC", ends, strict=True):
            assert re.sub("<.*?>", "", shown.partition(f"<{kind} 0.50>")[0])[-1] == "0123456789abcdef"[end - 1]
            assert shown.count(f"<{kind} 0.50>") == 1
    page.execute_script("last = arguments[0]; show()", {"text": text, "entities": entities})
    nested = page.execute_script("return document.querySelectorAll('#shown > mark > mark').length")
    assert nested == 3 and len(page.find_elements(By.CSS_SELECTOR, "#rows tr")) == 4


def test_html_in_a_text_is_shown_and_never_run(page):
    text = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script> aspirin"
    annotate(page, text)
    assert page.title == "compactbio" and "aspirin" in marks(page)
    assert not page.find_elements(By.CSS_SELECTOR, "#shown img, #shown script")
    content = page.execute_script("return document.getElementById('shown').cloneNode(true)"
                                  ".textContent.replace(/Drug \\d\\.\\d\\d/g, '')")  # fmt: skip
    assert content == text


def test_the_lowest_score_hides_entities(page):
    annotate(page, "aspirin")
    assert marks(page) == ["aspirin"]
    score = page.find_element(By.ID, "score")
    score.send_keys(Keys.END)
    assert page.find_element(By.ID, "score-shown").text == "1"
    # No score that a softmax gives reaches 1.
    assert marks(page) == []
    score.send_keys(Keys.HOME)
    assert marks(page) == ["aspirin"]


def test_the_answer_is_copied_as_json(page, server):
    origin = f"http://127.0.0.1:{server.port}"
    permission = {"origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.execute_cdp_cmd("Browser.grantPermissions", permission)
    annotate(page, "aspirin")
    page.find_element(By.ID, "copy").send_keys(Keys.ENTER)
    WebDriverWait(page, PATIENCE).until(lambda _: page.find_element(By.ID, "message").text == "Copied.")
    copied = page.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    found = json.loads(copied)
    assert found["text"] == "aspirin" and found["entities"][0]["type"] == "Drug"


def test_it_fits_on_a_phone_and_is_dark_where_asked(page):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    annotate(page, "the patients of aspirin and daily lung cancer " * 5)
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    light = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    feature = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    dark = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert light == "rgba(255, 255, 255, 1)" and dark == "rgba(21, 24, 28, 1)"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_comes_from_the_server_itself(page, server):
    annotate(page, "aspirin")
    names = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert names and all(name.startswith((f"http://127.0.0.1:{server.port}/", "data:")) for name in names)


def test_every_control_is_reached_by_keyboard_and_has_a_name(page):
    annotate(page, "aspirin")
    reached = set()
    for _ in range(6):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(page.switch_to.active_element.get_attribute("id"))
    assert {"text", "go", "score", "copy"} <= reached and "token" not in reached
    unnamed = "return [...document.querySelectorAll('textarea, input')].filter((one) => !one.labels.length).length"
    assert page.execute_script(unnamed) == 0


def test_a_token_is_asked_for_on_the_page(browser, tagger):
    with serving(tagger, "--token", "sesame") as one:
        browser.get(f"http://127.0.0.1:{one.port}/")
        field = browser.find_element(By.ID, "token")
        WebDriverWait(browser, PATIENCE).until(lambda _: field.is_displayed())
        message = browser.find_element(By.ID, "message")
        WebDriverWait(browser, PATIENCE).until(lambda _: "bearer token is needed" in message.text)
        field.send_keys("sesame", Keys.TAB)
        WebDriverWait(browser, PATIENCE).until(lambda _: not message.text)
        annotate(browser, "aspirin")
        assert marks(browser) == ["aspirin"]
