"""The page of a comparison in a real browser, with and without JavaScript: no console error, and no request to anywhere."""

from contextlib import contextmanager

import pytest

import netcompiler
from netcompiler import zoo
from netcompiler.compare import compare
from netcompiler.drawing.difference import draw_difference


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """ResNet-50 against ResNet-101."""
    path = tmp_path_factory.mktemp("difference") / "diff.html"
    draw_difference(compare(*(netcompiler.build(zoo.resnet.deploy(depth)) for depth in (50, 101))), path)
    return path


@contextmanager
def opened(chromium, path, **options):
    complaints, requests = [], []
    tab = chromium.new_page(viewport={"width": 1300, "height": 800}, reduced_motion="reduce", **options)
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    try:
        tab.goto(path.as_uri())
        yield tab
        assert not complaints
        assert {url.split("#")[0] for url in requests if not url.startswith("data:")} == {path.as_uri()}
    finally:
        tab.close()


def chosen(tab):
    """The names of the boxes that are chosen, and the layers of the lines."""
    boxes = tab.eval_on_selector_all(".box.chosen", "all => all.map(one => one.querySelector('.t-name').textContent)")
    lines = tab.eval_on_selector_all("tr.chosen", "all => all.map(one => one.querySelector('bdi').textContent)")
    return boxes, lines


def in_sight(tab, selector):
    """Whether an element lies in the part of the page, and of its pane, that is seen."""
    return tab.eval_on_selector(
        selector,
        """one => { const a = one.getBoundingClientRect(), b = one.closest("section").getBoundingClientRect();
                    return a.top >= b.top && a.bottom <= Math.min(b.bottom, innerHeight) }""",
    )


def test_choosing(chromium, path):
    with opened(chromium, path) as tab:
        tab.click("tr.k-changed dl")
        assert chosen(tab) == (["conv1", "conv1"], ["conv1"])
        tab.keyboard.press("n")
        assert chosen(tab) == (["res4b6_branch2a"], ["res4b6_branch2a"])
        assert in_sight(tab, ".box.chosen") and in_sight(tab, "tr.chosen")
        tab.keyboard.press("p")
        assert chosen(tab)[1] == ["conv1"]
        tab.locator(".box.is-added").nth(1).click()
        boxes, lines = chosen(tab)
        assert boxes == ["res4b6_branch2b"] and "res4b6_branch2b" in lines and "bn4b22_branch2b" in lines
        assert in_sight(tab, "tr.chosen")
        tab.locator(".box.is-changed").first.focus()
        tab.keyboard.press("Enter")
        assert chosen(tab)[0] == ["conv1", "conv1"]
        tab.keyboard.press("Escape")
        assert chosen(tab) == ([], [])


def test_zoom(chromium, path):
    with opened(chromium, path) as tab:

        def wide():
            return tab.eval_on_selector("#picture > svg", "one => one.getBoundingClientRect().width")

        fitting = wide()
        assert fitting <= tab.eval_on_selector("#picture", "one => one.clientWidth") + 1
        tab.click("button[aria-label=Larger]")
        assert wide() == pytest.approx(1.25 * fitting, rel=0.01)
        tab.keyboard.press("0")
        assert wide() == pytest.approx(fitting, rel=0.01)


@pytest.mark.parametrize("script", [True, False])
def test_filters_and_links(chromium, path, script):
    """Both work without JavaScript, too."""
    with opened(chromium, path, java_script_enabled=script) as tab:
        assert tab.locator("tr.k-added").first.is_visible() and not tab.locator("tr.k-renamed").first.is_visible()
        tab.uncheck("#show-added")
        tab.check("#show-renamed")
        assert not tab.locator("tr.k-added").first.is_visible() and tab.locator("tr.k-renamed").first.is_visible()
        tab.check("#show-added")
        assert tab.locator(".box.is-added").first.bounding_box()["y"] > 800
        tab.locator("tr.k-added a").first.click()
        box = tab.locator(".box.is-added").first.bounding_box()
        assert 0 < box["y"] < 800
        if not script:
            assert tab.url.endswith(f"#{tab.locator('.box.is-added').first.get_attribute('id')}")
