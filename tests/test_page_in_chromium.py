"""
The page to listen in Chromium, as somebody uses it: by mouse, by finger, by keys, from a disk and from a host.

What was seen stays in `data/seen`, or where NARRATE_TEST_SEEN says, for a person to look at.
"""

import json
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from playwright.sync_api import Page as Tab

from flows.narration.page import INDEX, Chapter, Page, Sentence, write_page
from tests.conftest import ROOT, wait_for
from tests.listening import GAP, a_page, chapter, cover, sound

pytestmark = [pytest.mark.long, pytest.mark.alone]

SEEN = Path(os.environ.get("NARRATE_TEST_SEEN", ROOT / "data/seen"))
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SHOWN_SECONDS = 15.0
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

AT = "() => Number(document.querySelector('.s[aria-current]')?.dataset.n ?? -1)"
TIME = "() => document.getElementById('audio').currentTime"
WORD = "() => [...(CSS.highlights.get('word') ?? [])].join()"
PLAYING = "() => !document.getElementById('audio').paused"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """
    Debian's Chromium; where there is none, tests are skipped with a reason, but not on a reviewer's machine.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("There is no Chromium: apt-get install chromium.")
        pytest.skip("There is no Chromium: apt-get install chromium.")
    SEEN.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=SHOWN_SECONDS * 1000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


class Window:
    """
    A browser's window on a page, which notes what it asks for, and what goes wrong in it.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.asked: list[str] = []
        self.wrong: list[str] = []
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        context.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        self.tab = context.new_page()
        self.tab.set_default_timeout(SHOWN_SECONDS * 1000)

    def open(self, address: Path | str, place: str = "") -> Tab:
        """
        Open the page in a folder, or at a host.
        """
        at = f"{(address / INDEX).as_uri()}" if isinstance(address, Path) else address
        self.tab.goto(at + place)
        expect(self.tab.locator("#chapters a[aria-current]")).to_have_count(1)
        return self.tab

    def until(self, script: str, right: Callable[[Any], bool], *, what: str) -> Any:
        """
        Wait until what *script* tells is right.
        """

        def look() -> tuple[Any] | None:
            found = self.tab.evaluate(script)
            return (found,) if right(found) else None

        return wait_for(look, what=what, seconds=SHOWN_SECONDS)[0]

    def see(self, name: str, *, full: bool = False) -> None:
        """
        Keep what is on the screen.
        """
        self.tab.screenshot(path=SEEN / f"{name}.png", full_page=full)


Opened = Callable[..., Window]


@pytest.fixture
def window(browser: Browser) -> Iterator[Opened]:
    """
    Open windows; nothing may have gone wrong in them, and nothing been asked for that is not of the page.
    """
    made: list[Window] = []

    def opened(**options: Any) -> Window:
        made.append(Window(browser.new_context(**{"viewport": DESK, **options})))
        return made[-1]

    yield opened
    for one in made:
        first = one.asked[0].split("#")[0].rpartition("/")[0]
        one.context.close()
        assert not one.wrong
        assert not [asked for asked in one.asked if not asked.startswith((f"{first}/", "data:"))]


def _told(folder: Path, *chapters: Chapter, **changed: Any) -> tuple[Path, Page]:
    """
    Write a page and its audio.
    """
    for one in chapters:
        for track in one.tracks:
            sound(folder / track.file, track.seconds)
    page = a_page(chapters, **changed)
    write_page(page, folder)
    return folder, page


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A book of three chapters with a cover.
    """
    titles = ("The Lamp", "A Suitcase, Wet from End to End", "What the Sea Asked For")
    chapters = [chapter(at, count, title=title) for at, (count, title) in enumerate(zip((40, 3, 12), titles, strict=True), 1)]
    first = replace(chapters[0], breaks=frozenset({6}))
    third = chapters[2]
    heading = third.sentences[0]._replace(text="What the Sea Asked For.", words=(), paragraph=-1)
    third = replace(third, sentences=(heading, *third.sentences[1:]), headings=frozenset({-1}))
    return _told(tmp_path_factory.mktemp("book"), first, chapters[1], third, cover=cover())[0]


def test_it_plays_and_shows_what_is_read(book: Path, window: Opened) -> None:
    """
    The sentence and the word that are read are marked, and what is marked is what is heard.
    """
    seen = window()
    tab = seen.open(book)
    assert -1 == tab.evaluate(AT)
    assert len(seen.asked) == 1, "audio is asked for when it is to be heard"

    tab.get_by_role("button", name="Play", exact=True).click()

    for wanted in (0, 1, 2):
        seen.until(AT, wanted.__eq__, what=f"sentence {wanted}")
        time = tab.evaluate(TIME)
        assert 0.5 + wanted * (1 + GAP) - 0.05 <= time <= 0.5 + (wanted + 1) * (1 + GAP) + 0.1
    seen.until(WORD, bool, what="a word")
    word, text = tab.evaluate(f"[({WORD})(), document.querySelector('.s[aria-current]').textContent]")
    assert word in text.split(" ")
    expect(tab.locator(".s[aria-current]")).to_have_count(1)
    tab.get_by_role("button", name="Pause").click()
    seen.until(PLAYING, lambda on: not on, what="silence")


def test_a_click_and_keys_go_there(book: Path, window: Opened) -> None:
    """
    To a sentence, by seconds, by sentences and by chapters; the speed changes; an address names a sentence.
    """
    seen = window()
    tab = seen.open(book)

    tab.locator(".s").nth(7).click()
    seen.until(AT, lambda at: at == 7, what="the sentence that was clicked")
    seen.until(TIME, lambda time: time >= 0.5 + 7 * (1 + GAP), what="its sound")
    assert tab.evaluate("location.hash") == "#chapter-1:8"
    tab.keyboard.press("k")
    seen.until(PLAYING, lambda on: not on, what="silence")
    at = tab.evaluate(AT)
    tab.keyboard.press(".")
    seen.until(AT, lambda now: now == at + 1, what="the next sentence")
    tab.keyboard.press(",")
    seen.until(AT, lambda now: now == at, what="the sentence before")
    before = tab.evaluate(TIME)
    tab.keyboard.press("ArrowRight")
    seen.until(TIME, lambda time: abs(time - before - 15) < 0.1, what="15 seconds on")
    tab.keyboard.press("+")
    expect(tab.get_by_label("Speed")).to_have_value("1.1")
    assert tab.evaluate("document.getElementById('audio').playbackRate") == 1.1

    tab.keyboard.press("]")
    expect(tab.locator("#chapter-title")).to_have_text("A Suitcase, Wet from End to End")
    tab.locator(".s").first.focus()
    tab.keyboard.press("ArrowDown")
    expect(tab.locator(".s").nth(1)).to_be_focused()
    tab.keyboard.press("Enter")
    seen.until(PLAYING, bool, what="sound")
    seen.until(AT, lambda now: now == 1, what="the sentence of the key")
    tab.keyboard.press(" ")
    seen.until(PLAYING, lambda on: not on, what="silence")

    tab.get_by_role("link", name="What the Sea Asked For").first.click()
    expect(tab.locator("#kicker")).to_contain_text("Chapter 3 of 3")
    tab.get_by_role("heading", name="What the Sea Asked For.").locator(".s").click()
    seen.until(AT, lambda now: now == 0, what="the title, which is a sentence as well")
    tab.evaluate("location.hash = '#chapter-1:12'")
    seen.until(AT, lambda now: now == 11, what="the sentence of the address")
    tab.keyboard.press("?")
    expect(tab.get_by_role("dialog", name="Keys")).to_be_visible()
    seen.see("page-keys")


def test_it_goes_on_with_the_next_chapter_and_remembers_where_it_was(book: Path, window: Opened) -> None:
    """
    A chapter that ends is followed by the next; whoever comes back is where they were, at the speed they had.
    """
    seen = window()
    tab = seen.open(book, "#chapter-2:3")
    tab.get_by_label("Speed").select_option("2")
    tab.get_by_role("button", name="Play", exact=True).click()

    expect(tab.locator("#chapter-title")).to_contain_text("What the Sea Asked For")
    seen.until(AT, lambda at: at == 2, what="the third sentence there")
    tab.get_by_role("button", name="Pause").click()
    time = tab.evaluate(TIME)
    tab = seen.open(book)

    expect(tab.locator("#chapter-title")).to_contain_text("What the Sea Asked For")
    expect(tab.get_by_label("Speed")).to_have_value("2")
    seen.until(AT, lambda at: at in (2, 3), what="the sentence of before")
    tab.get_by_role("button", name="Play", exact=True).click()
    assert seen.until(TIME, lambda now: now > 0, what="sound") >= time - 0.3


def test_it_follows_until_somebody_scrolls(book: Path, window: Opened) -> None:
    """
    The sentence is kept in view, unless one looks elsewhere; a button comes back to it.
    """
    seen = window(viewport={"width": 390, "height": 600}, reduced_motion="reduce")
    tab = seen.open(book, "#chapter-1:30")
    current = tab.locator(".s[aria-current]")
    expect(current).to_be_in_viewport()
    tab.get_by_role("button", name="Play", exact=True).click()
    back = tab.get_by_role("button", name="Back to the sentence")
    expect(back).to_be_hidden()

    tab.mouse.move(200, 200)
    tab.mouse.wheel(0, -3000)
    expect(back).to_be_visible()
    was = tab.evaluate(AT)
    seen.until(AT, lambda at: at > was, what="the next sentence")
    expect(current).not_to_be_in_viewport()
    back.click()
    expect(current).to_be_in_viewport()
    expect(back).to_be_hidden()


@pytest.mark.parametrize("clipboard", [True, False], ids=["clipboard", "selection"])
def test_a_sentence_can_be_recorded_anew(tmp_path: Path, window: Opened, *, clipboard: bool) -> None:
    """
    The command names folder and place so that a shell gives both back as they are, and is copied.
    """
    folder, name = tmp_path / "it's $HOME `x` – Ä", "chapter “one”; rm -rf 'x'"
    _told(folder, chapter(1, 6, name=name))
    seen = window(permissions=["clipboard-read", "clipboard-write"])
    if not clipboard:
        seen.context.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error())")
    tab = seen.open(folder)

    tab.locator(".s").nth(3).hover()
    tab.locator("#flag").click()
    dialog = tab.get_by_role("dialog", name="Have this sentence recorded anew")
    expect(dialog).to_contain_text("“Come in,” she said.")
    command = dialog.locator("code").inner_text()
    assert ["narrate", "retake", str(folder), "--at", f"{name}:4"] == shlex.split(command)
    dialog.get_by_role("button", name="Copy the command").click()
    expect(dialog).to_contain_text("Copied.")
    assert command == tab.evaluate("navigator.clipboard.readText()")
    seen.see("page-retake")
    tab.keyboard.press("Escape")

    tab.locator(".s").nth(1).focus()
    tab.keyboard.press("ContextMenu")
    expect(dialog.locator("code")).to_contain_text(":2")


def test_a_finger_that_stays_means_the_sentence(book: Path, window: Opened) -> None:
    """
    On a phone a long press has a sentence recorded anew, and a tap reads from it.
    """
    seen = window(viewport=PHONE, has_touch=True, is_mobile=True)
    tab = seen.open(book)
    one = tab.locator(".s").nth(4)
    one.scroll_into_view_if_needed()
    # Where it begins: the box around a sentence of two lines begins in the one before it.
    box = one.evaluate("one => one.getClientRects()[0].toJSON()")
    touch = seen.context.new_cdp_session(tab)
    at = {"x": box["x"] + 5, "y": box["y"] + box["height"] / 2}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    expect(tab.get_by_role("dialog")).to_be_visible()
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(tab.locator("#command")).to_contain_text("chapter-1:5")
    assert not tab.evaluate(PLAYING)
    tab.get_by_role("button", name="Close").click()
    tab.locator(".s").nth(5).tap()
    seen.until(AT, lambda at: at == 5, what="the sentence that was tapped")


class _Host(SimpleHTTPRequestHandler):
    """
    A host that only knows files.
    """

    def log_message(self, format: str, *args: Any) -> None:
        """
        Say nothing.
        """


def test_any_host_of_files_will_do(book: Path, window: Opened) -> None:
    """
    The page works over HTTP, asks for itself and for the audio, and for nothing else.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Host(*args, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        seen = window()
        url = f"http://127.0.0.1:{server.server_port}/"
        tab = seen.open(url)
        tab.locator(".s").nth(2).click()
        seen.until(AT, lambda at: at == 3, what="a sentence")
        assert {url, f"{url}01%20-%20Chapter%201.mp3"} == {one for one in seen.asked if not one.startswith("data:")}
        tab.keyboard.press("m")
        expect(tab.locator("#command")).to_contain_text("narrate retake 'Ada Author - The Salt Road' --at chapter-1:")
    finally:
        server.shutdown()


def test_audio_that_is_gone_is_told(tmp_path: Path, window: Opened) -> None:
    """
    Where a file is not beside the page, it is named.
    """
    write_page(a_page((chapter(1, 3),)), tmp_path)
    seen = window()
    tab = seen.open(tmp_path)
    tab.get_by_role("button", name="Play", exact=True).click()

    expect(tab.locator("#missing")).to_contain_text("01 - Chapter 1.mp3 cannot be played.")
    seen.wrong.clear()  # what the browser says of the file


def test_five_thousand_sentences_do_not_stutter(tmp_path: Path, browser: Browser, window: Opened) -> None:
    """
    Sixty chapters, one of 5,000 sentences: while it plays, and goes on to that chapter, no task takes 50 ms.
    """
    big = chapter(2, 5000, each=0.25)
    others = [chapter(at, 100, file=big.tracks[0].file, each=0.25) for at in (1, *range(3, 61))]
    write_page(a_page((others[0], big, *others[1:])), tmp_path)
    sound(tmp_path / big.tracks[0].file, big.seconds)
    seen = window(viewport=PHONE)

    with _tasks(browser, seen.tab) as opening:
        tab = seen.open(tmp_path, "#chapter-2:4000")
        expect(tab.locator(".s")).to_have_count(5000)
    seen.until(AT, lambda at: at == 3999, what="the sentence of the address")
    expect(tab.locator(".s[aria-current]")).to_be_in_viewport()
    tab.get_by_role("button", name="Play", exact=True).click()
    seen.until(AT, (4001).__le__, what="sound")
    with _tasks(browser, tab) as playing:
        seen.until(AT, (4011).__le__, what="ten sentences more")
    expect(tab.locator(".s[aria-current]")).to_be_in_viewport()
    tab.keyboard.press("[")
    seen.until(AT, (1).__le__, what="the chapter before")
    with _tasks(browser, tab) as turning:
        tab.keyboard.press("]")
        expect(tab.locator(".s")).to_have_count(5000)
        seen.until(AT, (1).__le__, what="the chapter of 5,000 sentences")

    print(f"longest tasks in ms: opening {opening[:3]}, playing {playing[:3]}, turning to it {turning[:3]}")
    assert len(playing) > 100
    assert playing[0] < 50
    assert turning[0] < 50
    assert opening[0] < 200


@contextmanager
def _tasks(browser: Browser, tab: Tab) -> Iterator[list[float]]:
    """
    Take the milliseconds of a page's tasks, longest first: those that they had the processor, which other programs want too.
    """
    found: list[float] = []
    browser.start_tracing(page=tab, categories=["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"])
    yield found
    events = json.loads(browser.stop_tracing())["traceEvents"]
    drawing = {(one["pid"], one["tid"]) for one in events if one.get("args", {}).get("name") == "CrRendererMain"}
    tasks = [one for one in events if one.get("name") == "RunTask" and (one["pid"], one["tid"]) in drawing]
    found += sorted((one.get("tdur", 0) / 1000 for one in tasks), reverse=True)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_no_serious_fault(book: Path, window: Opened, size: dict[str, int], *, dark: bool) -> None:
    """
    Nor does anything stick out to the side; what it looks like stays for a person.
    """
    seen = window(viewport=size, color_scheme="dark" if dark else "light", reduced_motion="reduce", bypass_csp=True)
    tab = seen.open(book)
    name = f"page-{size['width']}-{'dark' if dark else 'light'}"
    seen.see(name)
    faults = _faults(tab)
    expect(tab.locator("#levels > *")).to_have_count(0)
    closed = tab.locator("details:not([open]) > summary")
    while closed.count():
        closed.first.click()
    expect(tab.get_by_role("img", name="Waveform and loudness of The Lamp")).to_be_visible()
    expect(tab.locator("#levels tbody tr")).to_have_count(7)
    tab.locator("#sound").scroll_into_view_if_needed()
    seen.see(f"{name}-panels")
    faults += _faults(tab)
    tab.locator(".s").nth(8).click()
    seen.until(WORD, bool, what="a word")
    tab.keyboard.press("k")
    seen.see(f"{name}-reading")
    faults += _faults(tab)
    for key in ("m", "?"):
        tab.keyboard.press(key)
        expect(tab.get_by_role("dialog")).to_be_visible()
        faults += _faults(tab)
        tab.keyboard.press("Escape")

    assert not faults
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # The toggle wins over the system, and is remembered.
    tab.get_by_role("button", name="Dark").click()
    tab.reload()
    assert ("light" if dark else "dark") == tab.evaluate("document.documentElement.dataset.theme")


def _faults(tab: Tab) -> list[str]:
    found = Axe().run(tab, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(
    ("language", "title", "said"),
    [
        (
            "ar",
            "طريق الملح",
            ("كان المصباح في مكتب الميناء مضاءً منذ الرابعة صباحًا.", "كتبت منى آخر الأرقام في الدفتر، ثم أصغت."),
        ),
        ("ja", "塩の道", ("港の事務所の灯りは朝の四時から点いていた。", "ミナは最後の数字を帳面に書き、耳を澄ました。")),
    ],
)
def test_other_scripts_run_as_they_should(
    tmp_path: Path, window: Opened, language: str, title: str, said: tuple[str, ...]
) -> None:
    """
    Arabic from right to left; between Japanese sentences there are no spaces.
    """
    texts = tuple(Sentence(text, at, at + 1, at // 4) for at, text in enumerate(said * 6))
    write_page(a_page((replace(chapter(1, 12, title=title), sentences=texts),), title=title, language=language), tmp_path)
    seen = window(viewport=PHONE)
    tab = seen.open(tmp_path, "#chapter-1:2")

    text = tab.locator("#text")
    expect(text).to_have_attribute("lang", language)
    assert ("rtl" if language == "ar" else "ltr") == text.evaluate("one => getComputedStyle(one).direction")
    joint = " " if language == "ar" else ""
    assert joint.join((said * 2)[:4]) == tab.locator("#text p").first.text_content()
    seen.see(f"page-{language}")


def test_a_narrow_phone_and_paper_hold_it(book: Path, window: Opened) -> None:
    """
    At 320 pixels nothing sticks out; paper has the text and no buttons.
    """
    seen = window(viewport={"width": 320, "height": 600})
    tab = seen.open(book)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    speed = tab.get_by_label("Speed").bounding_box()
    assert speed
    assert speed["x"] + speed["width"] <= 320
    tab.emulate_media(media="print", color_scheme="dark")
    expect(tab.locator("#player")).to_be_hidden()
    expect(tab.locator("#text")).to_have_css("color", "rgb(0, 0, 0)")
    expect(tab.locator(".s").last).to_be_visible()
    seen.see("page-print", full=True)
