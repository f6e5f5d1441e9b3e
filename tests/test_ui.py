"""
The Prefect UI in Chromium, as somebody uses it who never saw the code: start runs from the form, look, cancel, say yes and no.

What was seen stays in `data/seen`, or where NARRATE_TEST_SEEN says, for a person to look at.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, TimeoutError, ViewportSize, expect, sync_playwright

from tests.conftest import ROOT, Narrate, Sandbox, wait_for
from tests.standing import ask
from tests.studio import END_SECONDS, FINAL, PARAGRAPHS, Up

pytestmark = [pytest.mark.long, pytest.mark.alone]

SEEN = Path(os.environ.get("NARRATE_TEST_SEEN", ROOT / "data/seen"))

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

SHOWN_SECONDS = 30.0
SUBMITTED_SECONDS = 120.0
PRESSED_SECONDS = 5.0

TALL: ViewportSize = {"width": 1400, "height": 3000}
"""A window that all of a small run's log fits in."""


class Ui:
    """
    The UI of a studio at *url* in a browser's *page*.
    """

    def __init__(self, url: str, page: Page) -> None:
        self.url, self.page = url, page

    def see(self, name: str) -> None:
        """
        Keep what is on the screen.
        """
        self.page.screenshot(path=SEEN / f"{name}.png", full_page=True)

    def fill_in(self, **fields: str) -> None:
        """
        Open the form of the deployment `narrate` from the list, and fill in *fields*, named by their labels.
        """
        self.page.goto(f"{self.url}/v2/deployments")
        for name in ("narrate", "nightly", "audiobook", "clone-voice", "library"):
            expect(self.page.get_by_role("link", name=name, exact=True).first).to_be_visible()
        self.page.get_by_role("link", name="narrate", exact=True).first.click()
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.page.wait_for_load_state("networkidle")  # the form is drawn anew when all it needs has come
        for label, value in fields.items():
            self.page.get_by_label(label).fill(value)
            expect(self.page.get_by_label(label)).to_have_value(value)

    def submit(self) -> str:
        """
        Submit the form; return the id of the run that it starts. A server that is busy refuses it, and it is submitted again.
        """

        def submitted() -> str | None:
            """
            Press Submit, and look what the server says to that.
            """
            with self.page.expect_response(re.compile("/create_flow_run$"), timeout=SUBMITTED_SECONDS * 1000) as said:
                self.page.get_by_role("button", name="Submit").click()
            return str(said.value.json()["id"]) if said.value.ok else None

        run = wait_for(submitted, what="a run", seconds=SUBMITTED_SECONDS)
        self.page.wait_for_url(re.compile(r"/deployment/[0-9a-f-]+(\?.*)?$"))
        return run

    def state(self, run: str) -> dict[str, Any]:
        """
        Read the state of a run.
        """
        found: dict[str, Any] = ask("GET", f"{self.url}/api/flow_runs/{run}").raise_for_status().json()["state"]
        return found

    def until(self, run: str, *types: str) -> dict[str, Any]:
        """
        Wait until a run is in a state of one of *types*.
        """

        def look() -> dict[str, Any] | None:
            state = self.state(run)
            return state if state["type"] in types else None

        return wait_for(look, what=" or ".join(types), seconds=END_SECONDS)

    def open(self, run: str, tab: str = "Details") -> None:
        """
        Open the page of a run.
        """
        self.page.goto(f"{self.url}/v2/runs/flow-run/{run}")
        self.page.get_by_role("tab", name=tab).click()

    def find_in_logs(self, run: str, text: str) -> None:
        """
        Find *text* in the logs of a run, from their end: their list holds no more rows than fit the window.

        The order is chosen once and remembered by the browser. Prefect's page may stay blank when it is chosen, for it waits
        for the list with its menu open; it is opened again then.
        """
        self.page.set_viewport_size(TALL)

        def found() -> bool | None:
            """
            Open the logs, the newest first, and look for the text.
            """
            with contextlib.suppress(TimeoutError):
                self.open(run, "Logs")
                order = self.page.get_by_role("combobox", name="log sort order")
                if "Newest" not in order.inner_text():
                    order.click()
                    self.page.get_by_role("option", name="Newest to oldest").click()
                self.page.get_by_text(text).first.wait_for(timeout=PRESSED_SECONDS * 1000)
                return True
            return None

        wait_for(found, what=f"“{text}” in the logs", seconds=END_SECONDS)

    def look_at(self, run: str, artifact: str) -> None:
        """
        Open an artifact of a run.
        """
        self.open(run, "Artifacts")
        self.page.get_by_role("link", name=re.compile(artifact)).first.click()
        self.page.locator("a[href*='/artifacts/artifact/']").first.click()

    def listen(self, script: str) -> None:
        """
        Open the narration that an artifact on the screen links, and have it played.
        """
        address = self.page.get_by_role("link", name=script, exact=True).first.get_attribute("href")
        self.page.goto(str(address))
        seconds = "player => player.duration || new Promise(known => player.ondurationchange = () => known(player.duration))"
        assert self.page.locator("video, audio").first.evaluate(seconds) > PARAGRAPHS

    def choose(self, item: str) -> None:
        """
        Choose *item* in the menu of a run's page.
        """
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name=item).click()

    def answer(self, run: str, answer: str, remark: str) -> None:
        """
        Resume a run that asks, with an *answer* and a *remark*.
        """
        self.open(run)
        self.choose("Resume")
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_contain_text("USD")
        dialog.get_by_role("button", name="Select").click()
        self.page.get_by_role("option", name=answer).click()
        dialog.get_by_label("Remark").fill(remark)
        self.see(f"asked-{answer}")

        def resumed() -> bool | None:
            """
            Press Resume; a server that is busy refuses it, and it is pressed again.
            """
            dialog.get_by_role("button", name="Resume").click()
            with contextlib.suppress(TimeoutError):
                dialog.wait_for(state="hidden", timeout=PRESSED_SECONDS * 1000)
            return self.state(run)["type"] != "PAUSED" or None

        wait_for(resumed, what="an answer that is taken", seconds=SHOWN_SECONDS)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """
    A page of Debian's Chromium; where there is none, tests are skipped with a reason, but not on a reviewer's machine.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("There is no Chromium: apt-get install chromium.")
        pytest.skip("There is no Chromium: apt-get install chromium.")
    SEEN.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        shown = browser.new_page(viewport={"width": 1400, "height": 1000})
        shown.set_default_timeout(SHOWN_SECONDS * 1000)
        expect.set_options(timeout=SHOWN_SECONDS * 1000)
        yield shown
        browser.close()


@pytest.fixture
def ui(page: Page, up: Up, sandbox: Sandbox) -> Ui:
    """
    The UI of a studio that is ready.
    """
    sandbox.config(training="at-once")
    return Ui(up().url(), page)


def test_a_run_from_the_form_shows_what_it_did(ui: Ui, person: Narrate) -> None:
    """
    The form starts a run; its page has progress, report, voice, cost and pictures; what is not possible is refused.
    """
    ui.fill_in(**{"Requests at once": "0"})
    ui.page.get_by_role("button", name="Submit").click()
    told = ui.page.get_by_label("Requests at once").evaluate(
        "field => field === document.activeElement && field.validationMessage"
    )
    assert "1" in told
    assert "None" not in ui.page.inner_text("main")
    ui.see("form-refuses")

    ui.fill_in(**{"Output folder": "data/heard", "Longest segment (bytes)": "400"})
    ui.see("form")
    run = ui.submit()
    assert "COMPLETED" == ui.until(run, *FINAL)["type"]

    assert (person.folder / "data/heard/long.mp3").is_file()
    ui.open(run, "Artifacts")
    for key in ("narrate-progress", "narrate-report", "narrate-voice", "narrate-cost", "narrate-narration-long"):
        expect(ui.page.get_by_role("link", name=re.compile(key)).first).to_be_visible()
    ui.see("artifacts")
    ui.look_at(run, "narrate-report")
    expect(ui.page.get_by_text("long.txt").first).to_be_visible()
    ui.see("report")
    ui.listen("long.txt")
    ui.look_at(run, "narrate-report")
    ui.page.get_by_role("link", name="Listen", exact=True).click()
    expect(ui.page.get_by_text("This is paragraph 3.").first).to_be_visible()
    ui.see("page")
    ui.look_at(run, "narrate-cost")
    expect(ui.page.locator("main svg[aria-roledescription='xychart']")).to_have_count(2)
    ui.see("cost")
    ui.look_at(run, "narrate-narration-long")
    expect(ui.page.locator("main img").first).to_be_visible()
    ui.see("waveform")
    expect(ui.page.get_by_text("narrate scripts as Demo").first).to_be_visible()
    ui.open(run, "Task Runs")
    expect(ui.page.get_by_text("synthesize long.txt").first).to_be_visible()
    ui.see("task-runs")


def test_cancel_keeps_what_is_paid_and_a_second_run_goes_on(ui: Ui, sandbox: Sandbox) -> None:
    """
    Cancel in the UI ends a run that is under way, which says so; the next one sends what was not sent.
    """
    sandbox.config(latency=1.0)
    ui.fill_in(**{"Requests at once": "1", "Longest segment (bytes)": "40"})
    run = ui.submit()
    wait_for(lambda: sandbox.spoken() or None, what="a take", seconds=END_SECONDS)
    ui.open(run)
    ui.choose("Cancel")
    ui.page.get_by_role("alertdialog").get_by_role("button", name="Cancel Flow Run").click()
    assert "CANCELLED" == ui.until(run, *FINAL)["type"]
    ui.find_in_logs(run, "Nothing more is sent")
    ui.see("cancelled")

    assert 0 < len(sandbox.spoken()) < PARAGRAPHS
    sandbox.config(latency=0.0)
    ui.fill_in(**{"Longest segment (bytes)": "40"})
    assert "COMPLETED" == ui.until(ui.submit(), *FINAL)["type"]
    assert PARAGRAPHS == len(sandbox.spoken()) == len(set(sandbox.spoken()))


@pytest.mark.parametrize(("answer", "end"), [("yes", "COMPLETED"), ("no", "CANCELLED")])
def test_a_run_over_the_threshold_does_as_it_is_told(ui: Ui, sandbox: Sandbox, answer: str, end: str) -> None:
    """
    A run that costs more than the form allows waits; it goes on with yes and ends with no, and the remark is in its log.
    """
    ui.fill_in(**{"Ask a person above (USD)": "0"})
    run = ui.submit()
    assert "Suspended" == ui.until(run, "PAUSED", *FINAL)["name"]
    assert not sandbox.spoken()

    ui.answer(run, answer, "as the author wishes")

    assert end == ui.until(run, *FINAL)["type"]
    assert (PARAGRAPHS if answer == "yes" else 0) == len(sandbox.spoken())
    ui.find_in_logs(run, "as the author wishes")
    ui.see(f"answered-{answer}")
