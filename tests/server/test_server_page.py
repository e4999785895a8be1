"""The page in a real browser: a user types, reads and moves with the keyboard."""

import re
import time

import browser
import pytest
from fake_model import FakeModel, expected
from served import served

pytestmark = pytest.mark.skipif(not browser.find_browser(), reason="no Chromium on this machine")
MARKUP = "<script>window.ran=1</script> sagt <img/src=x/onerror=window.ran=1> <b>fett</b>"


@pytest.fixture(scope="module")
def page():
    with browser.open_page() as page:
        yield page


@pytest.fixture
def place(client, page):
    """The address of the server, with nothing noted of pages before."""
    page.messages.clear()
    page.requests.clear()
    return client.address


def wait(page, expression):
    """Until a JavaScript expression is true."""
    until = time.monotonic() + 30
    while not page.value(expression):
        assert time.monotonic() < until, (expression, page.value("document.body.innerText"))
        time.sleep(0.02)


def type_in(page, text):
    page.value("document.getElementById('source').focus()")
    page.call("Input.insertText", text=text)


def press(page, key, code, modifiers=0):
    for kind in ("keyDown", "keyUp"):
        page.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key=key,
            code=key,
            windowsVirtualKeyCode=code,
            modifiers=modifiers,
        )


def text_of(page, name):
    return page.value(f"document.getElementById('{name}').innerText")


def shows(page, text):
    wait(page, f"document.getElementById('result').textContent === {text!r}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_markup_is_text(width, scheme, page, place):
    """The translation and its lattice are seen, nothing runs, nothing is fetched elsewhere."""
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=media)
    page.open(f"{place}/", width)
    type_in(page, MARKUP)
    shows(page, expected(MARKUP))
    wait(page, "!document.getElementById('crf').hidden")
    assert re.fullmatch(r"score .0\.50 · [\d.]+ ms", text_of(page, "time"))
    assert not text_of(page, "problem")
    assert expected(MARKUP).upper() in text_of(page, "alternatives")
    assert "1.25" in text_of(page, "alternatives")
    assert text_of(page, "viterbi") == expected(MARKUP)
    assert text_of(page, "argmax") == f"{expected(MARKUP)} argmax"
    words = [*expected(MARKUP).split(), "</s>"]
    assert f"They differ at 3 of {len(words)} positions" in text_of(page, "differing")
    changes = page.value("[...document.querySelectorAll('.change')].map(x => x.textContent)")
    assert changes[0] == f"2 ▁{words[1]} → ▁{words[1]}+"
    boxes = page.value("[...document.querySelectorAll('.token bdi')].map(box => box.textContent)")
    assert boxes[: len(words)] == [f"▁{word}" for word in words]
    for path in ("viterbi", "argmax"):
        assert page.value(f"document.querySelectorAll('.token.{path}').length") == len(words)
        assert page.value(f"document.querySelectorAll('line.{path}').length") == len(words) - 1
    background = page.value("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(246, 245, 242)") == (scheme == "light")

    assert page.value("window.ran") is None
    assert page.value("document.querySelectorAll('img, b, main script').length") == 0
    assert page.value("document.documentElement.scrollWidth") <= width == page.value("innerWidth")
    assert {url.rpartition("/")[0] for url in page.requests} <= {place, "data:,", ""}, page.requests
    assert not page.messages, page.messages


def test_policy_stops_scripts(page, place):
    """Even if text became markup, the browser would not run it."""
    page.open(f"{place}/", 1280)
    made = "document.body.innerHTML = '<img src=x onerror=window.ran=1>'"
    with pytest.raises(AssertionError, match="TrustedHTML"):
        page.value(made)
    page.value("fetch('http://192.0.2.1/').catch(() => 0).then(() => window.done = 1), 0")
    wait(page, "window.done")
    assert any("Content Security Policy" in message for message in page.messages)
    assert page.value("window.ran") is None


def test_the_newest_text_wins(page):
    model = FakeModel(seconds=0.15)
    with served(model) as slow:
        page.open(f"{slow.address}/", 1280)
        for word in "eins zwei drei vier fünf sechs".split():
            type_in(page, f"{word} ")
            time.sleep(0.13)
        shows(page, "sechs fünf vier drei zwei eins")
        time.sleep(0.6)
        shows(page, "sechs fünf vier drei zwei eins")
    assert len(model.batches) < 6


def test_lines_and_the_current_one(page, place):
    page.open(f"{place}/", 1280)
    type_in(page, "a b\n\nc d e")
    wait(page, "document.querySelectorAll('#result > div').length === 3")
    lines = page.value("[...document.querySelectorAll('#result > div')].map(x => x.textContent)")
    assert lines == ["b a", "", "e d c"]
    wait(page, "document.getElementById('viterbi').textContent === 'e d c'")
    for _ in range(2):
        press(page, "ArrowUp", 38)
    wait(page, "document.getElementById('viterbi').textContent === 'b a'")
    assert page.value("document.querySelector('#result > .current').textContent") == "b a"
    assert "B A" in text_of(page, "alternatives")
    press(page, "ArrowDown", 40)
    wait(page, "document.getElementById('crf').hidden")  # a blank line


def test_keyboard_alone(page, place):
    """Tab reaches all there is to use, and does not stay in the text."""
    page.open(f"{place}/", 400)
    type_in(page, "ein Satz mit vielen Wörtern der breiter ist als das Fenster")
    wait(page, "!document.getElementById('crf').hidden")
    assert page.value("document.activeElement.id") == "source"
    press(page, "Tab", 9)
    assert page.value("document.activeElement.id") == "scroll"
    press(page, "ArrowRight", 39)
    wait(page, "document.getElementById('scroll').scrollLeft > 0")
    press(page, "Tab", 9, modifiers=8)
    assert page.value("document.activeElement.id") == "source"
    usable = page.value(
        "[...document.querySelectorAll('a, button, input, select, textarea, [tabindex]')]"
        ".map(x => x.id)"
    )
    assert usable == ["source", "scroll"]
    assert page.value("document.getElementById('result').ariaLive") == "polite"
    assert page.value("document.querySelector('label').control.id") == "source"


def test_right_to_left(page, place):
    page.open(f"{place}/", 1280)
    type_in(page, "שלום עולם")
    shows(page, "עולם שלום")
    wait(page, "!document.getElementById('crf').hidden")
    for name in ("#source", "#result > div", "#viterbi"):
        direction = f"getComputedStyle(document.querySelector('{name}')).direction"
        assert page.value(direction) == "rtl"


def test_mistakes_are_told_and_forgotten(page, place):
    page.open(f"{place}/", 1280)
    type_in(page, "POISON")
    wait(page, "document.getElementById('problem').textContent === \"'POISON' is bad\"")
    page.value("document.getElementById('source').select()")
    page.call("Input.insertText", text="b a")
    shows(page, "a b")
    wait(page, "document.getElementById('problem').textContent === ''")


def test_without_crf_and_without_server(page):
    with served(FakeModel(has_crf=False)) as plain:
        page.open(f"{plain.address}/", 1280)
        type_in(page, "b a")
        shows(page, "a b")
    page.requests.clear()
    type_in(page, " c")
    wait(page, "document.getElementById('problem').textContent === 'The server does not answer.'")
    assert page.value("document.getElementById('crf').hidden")
    assert not any("lattice" in url for url in page.requests)
