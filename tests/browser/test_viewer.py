"""The viewer in a real browser, without a window: what keys and the mouse do, and what then can be seen and heard of it."""

import io
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from sgacodec.viewer import page
from sgacodec_cli import view
from sgacodec_cli.loaded import decoded, load
from sgacodec_cli.local_server import Server

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="Chromium or its driver is not installed"),
]

FLAGS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
         "disable-component-update", "disable-sync", "hide-scrollbars", "force-device-scale-factor=1",
         "force-color-profile=srgb", "window-size=1200,600"]  # fmt: skip

SIZE = (400, 300)
BEFORE, AFTER, THIRD = (10, 120, 30), (20, 120, 25), (200, 200, 0)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def scene(*images, **more):
    shown = [page.Shown(f"P{index}", "", page.data_uri(image)) for index, image in enumerate(images)]
    return page.Scene(more.pop("name", "scene"), *images[0].size, shown, **more)


def flat(*colours):
    return [Image.new("RGBA" if len(colour) == 4 else "RGB", SIZE, colour) for colour in colours]


class Page:
    """An open page."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get_log("browser")
        browser.get(address)
        self.stage = browser.find_element(By.CSS_SELECTOR, ".stage")
        self.wait()

    def wait(self):
        """Until all pictures are there, and drawn."""
        self.browser.execute_async_script("""const done = arguments[0];
            Promise.all([...document.querySelectorAll("picture-viewer img[src]")].map(image => image.decode()))
              .then(() => requestAnimationFrame(() => requestAnimationFrame(done)))""")

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys):
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def click(self, selector):
        self.one(selector).click()

    def colour(self, x, y=0):
        """The colour on the screen so many pixels from the middle of the stage."""
        self.wait()
        shot = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        box = self.stage.rect
        return shot.getpixel((round(box["x"] + box["width"] / 2 + x), round(box["y"] + box["height"] / 2 + y)))

    def value(self, name):
        return self.one(name).get_attribute("aria-valuetext")

    def status(self):
        return self.one("[role=status]").get_attribute("textContent")

    def scale(self):
        return self.one(".scale").text

    def names(self):
        """Role and name of everything that assistive technology is told of."""
        nodes = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}


@pytest.fixture
def show(browser, tmp_path):
    def show(*scenes, focused=True):
        path = tmp_path / "page.html"
        path.write_bytes(page.page("test", page.viewer(scenes, focused)))
        return Page(browser, path.as_uri())

    yield show
    assert browser.get_log("browser") == []  # neither an error nor something that the page's policy refused


def test_the_slider_moves_by_keys_and_by_the_mouse(show):
    shown = show(scene(*flat(BEFORE, AFTER)))
    assert (shown.colour(-20), shown.colour(20)) == (BEFORE, AFTER)
    shown.press(*[Keys.RIGHT] * 10)
    assert (shown.colour(20), shown.colour(60)) == (BEFORE, AFTER)
    assert shown.value("input") == "60 %: P0 to the left, P1 to the right"
    ActionChains(shown.browser).move_to_element_with_offset(shown.stage, 40, 100).click_and_hold().move_by_offset(
        -140, 0
    ).release().perform()
    assert (shown.colour(-120), shown.colour(-80)) == (BEFORE, AFTER)
    assert shown.value("input").startswith("25 %")
    shown.one("input").send_keys(Keys.END)
    assert shown.colour(180) == BEFORE
    shown.press("d", "d")  # the slider had the focus and was gone for a while
    assert shown.status() == "Slider"


def test_the_difference_is_amplified(show):
    shown = show(scene(*flat(BEFORE, AFTER)))
    shown.press("d")
    assert shown.colour(0) == (80, 0, 40)
    assert shown.status() == "Difference"
    shown.one("[data-at=gain]").send_keys("16")
    assert shown.colour(0) == (160, 0, 80)
    shown.stage.click()
    shown.press("d")
    assert shown.colour(-20) == BEFORE


def test_alpha_is_on_a_checkerboard_and_equal_pictures_do_not_differ(show):
    shown = show(scene(*flat((250, 0, 0, 100), (250, 0, 0, 100))))
    assert shown.colour(-30, -100) != shown.colour(-30, -108)
    shown.press("d")
    assert shown.colour(0) == (0, 0, 0)


def test_side_by_side_and_the_original_while_a_key_is_held(show):
    shown = show(scene(*flat(BEFORE, AFTER)))
    shown.press("s")
    assert (shown.colour(-200), shown.colour(200)) == (BEFORE, AFTER)
    assert shown.one("[data-mode=side]").get_attribute("aria-pressed") == "true"
    ActionChains(shown.browser).key_down("o").perform()
    assert (shown.colour(-200), shown.colour(200), shown.status()) == (BEFORE, BEFORE, "P0 alone")
    ActionChains(shown.browser).key_up("o").perform()
    assert (shown.colour(200), shown.status()) == (AFTER, "Both pictures")


def test_zoom_and_pan(show):
    """Left half dark, right half light; enlarged pixels have hard edges."""
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:, 200:] = 240
    shown = show(scene(Image.fromarray(pixels), Image.fromarray(pixels)))
    assert shown.scale() == "100 %"
    shown.press("4")
    assert shown.scale() == "400 %"
    assert (shown.colour(-3, 50), shown.colour(3, 50)) == ((0, 0, 0), (240, 240, 240))
    ActionChains(shown.browser).key_down(Keys.SHIFT).send_keys(Keys.RIGHT).key_up(Keys.SHIFT).perform()
    assert shown.colour(-60, 50) == (240, 240, 240)
    ActionChains(shown.browser).move_to_element_with_offset(shown.stage, -200, 50).click_and_hold().move_by_offset(
        64, 0
    ).release().perform()
    assert shown.colour(-3, 50) == (0, 0, 0)
    for keys, scale in [("+", "800 %"), ("-", "400 %"), ("1", "100 %"), ("2", "200 %"), ("0", "100 %")]:
        shown.press(keys)
        assert shown.scale() == scale
        assert shown.status() == f"Scale {scale}"
    ActionChains(shown.browser).scroll_from_origin(ScrollOrigin.from_element(shown.stage), 0, -200).perform()
    assert shown.scale() == "200 %"


def test_without_the_focus_the_wheel_scrolls_the_page(show):
    shown = show(scene(*flat(BEFORE, AFTER)), focused=False)
    ActionChains(shown.browser).scroll_from_origin(ScrollOrigin.from_element(shown.stage), 0, -200).perform()
    shown.press("4")
    assert shown.scale() == "100 %"


def test_several_scenes_and_pictures(show):
    shown = show(scene(*flat(BEFORE, AFTER, THIRD), left=2, right=1), scene(*flat(THIRD, BEFORE), name="two"))
    assert (shown.colour(-20), shown.colour(20)) == (THIRD, AFTER)
    shown.one("[data-at=right]").send_keys("P0")
    assert shown.colour(20) == BEFORE
    shown.one("[data-at=scene]").send_keys("two")
    assert (shown.colour(-20), shown.colour(20)) == (THIRD, BEFORE)
    assert not shown.one("[data-at=left]").is_displayed()


def test_one_picture_has_nothing_to_compare_it_with(show):
    shown = show(scene(*flat(BEFORE)))
    assert (shown.colour(-20), shown.colour(20)) == (BEFORE, BEFORE)
    for selector in ("[data-mode]", ".handle", "input", ".hold"):
        assert not shown.one(selector).is_displayed()
    shown.press("d")
    assert shown.colour(0) == BEFORE


def test_assistive_technology_is_told_of_everything(show):
    shown = show(scene(*flat(BEFORE, AFTER)))
    expected = {
        ("slider", "Slider between the pictures"), ("button", "Side by side"), ("button", "Difference"),
        ("button", "Zoom in"), ("button", "Zoom out"), ("button", "Fit"), ("button", "Hold: P0"), ("button", "Help: keys"),
        ("group", "Pictures"), ("group", "Zoom"), ("image", "P0, 400 x 300 pixels"), ("image", "P1, 400 x 300 pixels"),
        ("status", ""),
    }  # fmt: skip
    assert expected - shown.names() == set()
    shown.press("?")
    assert ("dialog", "Keys") in shown.names()
    shown.press(Keys.ESCAPE)
    assert ("dialog", "Keys") not in shown.names()


def test_names_from_files_are_text(show):
    name = "</script><img src=x onerror=alert(1)>"
    shown = show(page.Scene(name, 4, 4, [page.Shown(name, name, page.data_uri(each)) for each in flat(BEFORE, AFTER)]))
    assert shown.one(".tag.left").text == f"{name}: {name}"


@pytest.mark.parametrize("width", [400, 1600])
def test_view_and_its_server(browser, tmp_path, small_file, scene, width):
    """The page of `view` itself: pictures come, nothing is refused, nothing is wider than the window."""
    Image.fromarray(scene).save(tmp_path / "a.png")
    files = view._files(decoded("a.sga", small_file), load(str(tmp_path / "a.png")))
    with Server(files, page.policy()) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            shown = Page(browser, server.address)
            assert shown.one(".left img").get_property("naturalWidth") == 130
            assert browser.execute_script("return document.documentElement.scrollWidth") == width
            assert shown.colour(-10, 30) == tuple(scene[78, 55])
            browser.get(server.address.replace(server.token, "x" * 32))
            assert "Forbidden" in browser.page_source
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            server.shutdown()
            thread.join()
