"""The console's tables in a real browser: no id, time or amount wraps, and nothing moves under the pointer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from serving_home import explained_home, promote, publish, row
from serving_process import serving
from test_console import CONTRACT

from pipeline.registry.registry import Registry
from processing.storage.open import open_home

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

LONG = "transaction-" + "x" * 244  # the longest id that the API takes
ERROR = (
    "the step Features failed: ClientError: An error occurred (AccessDeniedException) when calling the GetTable "
    "operation: User: arn:aws:sts::123456789012:assumed-role/fraudline-features-Role1ABC2DEF/GlueJobRunnerSession is "
    "not authorized to perform: glue:GetTable on resource: arn:aws:glue:eu-central-1:123456789012:table/fraudline/x; "
    "let the role do this, and run again. " * 3
)
WHOLE = "time, .id, .mark, .n, th, [data-th=Started], [data-th=Created], .label"  # never wraps
PAGES = ("/", "/console/runs", "/console/versions", "/docs")
WIDTHS = (1280, 800, 390)
WRAPPED = """(cells) => cells
  .filter((cell) => cell.offsetParent !== null && cell.textContent.trim() !== "")
  .filter((cell) => {
    const style = getComputedStyle(cell), range = document.createRange();
    range.selectNodeContents(cell);
    const tops = [...range.getClientRects()].filter((box) => box.width > 1).map((box) => box.top);
    return Math.max(...tops) - Math.min(...tops) > parseFloat(style.lineHeight) * 0.7;
  })
  .map((cell) => cell.textContent.trim())"""


def decide(address: str, *names: str, amount: float = 950.0, **more: Any) -> None:
    """Have transactions decided; the default amount is flagged as fraud."""
    with httpx.Client(base_url=address, timeout=20) as caller:
        for name in names:
            transaction = row(CONTRACT, transaction_id=name, amount=amount, **more)
            caller.post("/v1/score", json=transaction).raise_for_status()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a second model, and with runs, one of which failed for a long reason."""
    folder = tmp_path_factory.mktemp("tables")
    home = explained_home(folder)
    publish(home, 1, more={"report.html": b"<p>the report</p>"})
    data = {"rows_accepted": 1_234_567, "rows_new": 1_234_000, "rows_refused": 34}
    files = [{"name": f"transactions-{'of-a-long-name-' * 8}.parquet", "bytes": 123_456_789}]
    home.write("runs/20260301T120000Z-abcde/features.json", json.dumps(data | {"files": files}).encode())
    done = {"status": "Succeeded", "started": "2026-03-01T12:00:00.000Z"}
    home.write("runs/20260301T120000Z-abcde/outcome.json", json.dumps(done).encode())
    failed = {"status": "Failed", "reason": ERROR, "started": "2026-03-02T12:00:00.000Z"}
    home.write("runs/20260302T120000Z-fghij/outcome.json", json.dumps(failed).encode())
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder, folder / "log") as address:
        decide(address, LONG, "T1000001")
        decide(address, *(f"20260301-{i:032x}" for i in range(5)))
        decide(address, "small", amount=3.0)
        yield address


@pytest.fixture
def page(browser: "Browser", address: str) -> "Iterator[Page]":
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800})
    wrong: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PAGES)
def test_ids_times_and_amounts_do_not_wrap(page: "Page", path: str, width: int) -> None:
    """Not even next to a long error and the longest id. The page scrolls vertically only."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(path)
    page.wait_for_load_state("networkidle" if path != "/" else "load")
    page.evaluate("document.querySelectorAll('details.route').forEach((one) => { one.open = true; })")
    page.wait_for_selector("table")
    scope = ", ".join(f"table {one.strip()}" for one in WHOLE.split(","))
    assert page.eval_on_selector_all(scope, "(cells) => cells.length") > 5
    assert page.eval_on_selector_all(scope, WRAPPED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    narrow = "(cells) => cells.filter((c) => c.offsetParent && c.textContent.length > 60 && c.clientWidth < 150).length"
    assert page.eval_on_selector_all("table .words", narrow) == 0


def test_a_long_error_is_collapsed_but_complete(page: "Page") -> None:
    page.goto("/console/runs")
    reason = page.locator("tr:has-text('Failed') details.words")
    assert reason.bounding_box()["height"] < 150  # type: ignore[index]
    reason.locator("summary").click()
    assert ERROR.strip() in reason.inner_text()


def at_pointer(page: "Page", x: float, y: float) -> str:
    label: str = page.evaluate("([x, y]) => document.elementFromPoint(x, y).getAttribute('aria-label')", [x, y])
    return label


def test_new_decisions_do_not_shift_the_table_until_requested(page: "Page", address: str, folder: Path) -> None:
    """A selected id stays selected, and the button under the pointer stays that of its payment, whatever is decided or
    promoted meanwhile; new decisions appear on request."""
    decide(address, "pointed at")
    page.goto("/")
    button = page.locator("button[aria-label='Report pointed at as fraud']")
    box = button.bounding_box()
    assert box
    position = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*position)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#stream [title=\"pointed at\"]'))")
    assert page.evaluate("getSelection().toString()") == "pointed at"
    urls: list[str] = []
    page.on("response", lambda response: urls.append(response.url))

    decide(address, *(f"new {i}" for i in range(12)))
    registry = Registry(open_home(folder))
    before = page.inner_text("#version")
    promote(registry.home, next(name for name in registry.names() if name != before))
    page.wait_for_selector("#load-new:text-is('12 new')")
    for part in ("/console/serving", "/console/fresh"):
        seen = len(urls)
        while sum(part in url for url in urls[seen:]) < 2:
            page.wait_for_timeout(100)
    assert page.evaluate("getSelection().toString()") == "pointed at"
    assert at_pointer(page, *position) == "Report pointed at as fraud"
    assert page.inner_text("#version") == before
    assert page.locator("#serving[data-held]").count() == 1  # the page says that it has changed

    page.evaluate("getSelection().removeAllRanges()")
    page.click("#load-new")
    page.wait_for_selector("#stream [title='new 11']")
    assert page.locator("#stream tbody tr").first.locator(".id").inner_text() == "new 11"
    assert page.locator("#load-new").count() == 0
    page.mouse.move(5, 5)
    page.wait_for_function("(before) => document.querySelector('#version').textContent !== before", arg=before)


def test_a_second_click_hits_the_same_button(page: "Page", address: str) -> None:
    for word in ("fraud", "legit"):
        decide(address, f"clicked {word}")
        page.goto("/")
        box = page.locator(f"button[aria-label='Report clicked {word} as {word}']").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.click(x, y)
        page.wait_for_selector(f"tr:has-text('clicked {word}') [aria-pressed=true]:text-is('{word}')")
        assert at_pointer(page, x, y) == f"Report clicked {word} as {word}"


def test_decisions_are_searched_and_paged_through(page: "Page", address: str) -> None:
    decide(address, *(f"walk {i:03}" for i in range(105)), customer_id="walker")
    page.goto("/")
    page.fill("input[name=customer_id]", "walker")
    page.click(".filter button")
    page.wait_for_selector("#count:has-text('105 decisions match')")
    ids = page.locator("#stream tbody .id")
    assert (ids.count(), ids.first.inner_text()) == (50, "walk 104")
    page.click("a[rel=next]")
    page.wait_for_selector("[title='walk 054']")
    page.click("a[rel=next]")
    page.wait_for_selector("[title='walk 004']")
    assert ids.count() == 5
    assert page.locator("a[rel=next]").count() == 0
    page.click("a[rel=prev]")
    page.wait_for_selector("[title='walk 054']")
    assert (ids.count(), ids.first.inner_text()) == (50, "walk 054")
    page.click("a:text-is('Newest')")
    page.wait_for_selector("[title='walk 104']")
    page.goto("/?transaction_id=walk+007")
    page.wait_for_selector("#count:has-text('1 decision matches')")
    assert ids.all_inner_texts() == ["walk 007"]
