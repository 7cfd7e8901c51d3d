"""The server's page in a real browser: on a desk, on a phone, and with the keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtbert.server.app import Limits, make_app
from mtbert.serving.predictor import Predictor
from tests.support.browser import Browser, browser, needs_chromium
from tests.support.served import HEAT, MOOD, TONE, due, listening, predictor
from tests.support.tiny_models import NEAR, SAME, plan

pytestmark = needs_chromium
TASKS = [MOOD, TONE, HEAT, SAME, NEAR]
ANSWERS = "document.getElementById('answers').innerText"


@pytest.fixture(scope="module")
def own() -> Predictor:
    """The model behind the page."""
    return predictor([plan("lora", tasks=["heat"])], TASKS)


@pytest.fixture(scope="module")
def address(own: Predictor) -> Iterator[str]:
    """Where a server of a tiny model answers."""
    with listening(make_app({"run": own}, Limits())) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.mark.parametrize(("width", "height"), [(1100, 800), (360, 640)])
def test_a_text_goes_through_all_tasks_with_the_keyboard_alone(
    own: Predictor, address: str, chromium: Browser, tmp_path: Path, width: int, height: int
) -> None:
    chromium.open(address, width, height)
    chromium.wait("document.getElementById('task')?.length === 7")
    assert chromium.see("document.activeElement.id") == "first"
    chromium.type("good film")
    chromium.press("Tab")
    chromium.press("Enter")
    said = chromium.wait(ANSWERS)
    for task in ("mood", "tone"):
        assert f"{task}: {due(own, task, 'good film')['prediction']}" in said
    (score,) = own.predict("heat", ["good film"])
    assert f"heat: {score:.2f}" in said
    bars = chromium.see("[...document.querySelectorAll('.bar')].map(bar => parseFloat(bar.style.width))")
    shares = [one for task in ("mood", "tone") for one in own.probabilities(task, ["good film"])[0].values()]
    assert bars == pytest.approx([*(100 * share for share in shares), 10 * score], abs=0.01)
    assert chromium.see("document.documentElement.scrollWidth") <= width

    for _ in range(2):
        chromium.press("Tab", shift=True)
    assert chromium.see("document.activeElement.id") == "task"
    for _ in range(6):
        chromium.press("ArrowDown")
    assert chromium.see("document.getElementById('task').selectedOptions[0].text") == "near"
    assert chromium.see("!document.getElementById('pair').hidden")
    for _ in range(2):
        chromium.press("Tab")
    chromium.type("the film")
    chromium.press("Tab")
    chromium.press("Enter")
    (score,) = own.predict("near", [("good film", "the film")])
    assert chromium.wait(f"{ANSWERS}.startsWith('near: {score:.2f}')")
    chromium.photograph(tmp_path / f"page-{width}.png")


def test_what_is_wrong_is_said_on_the_page(address: str, chromium: Browser) -> None:
    chromium.open(address, 1100, 800)
    chromium.wait("document.getElementById('task')?.length === 7")
    chromium.type("x" * 20_001)
    chromium.press("Tab")
    chromium.press("Enter")
    assert "at most 20000 characters" in chromium.wait(ANSWERS)
