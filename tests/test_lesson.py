"""Lessons: what the page shows is what Python computes, at every step, and it asks nothing of a network."""

import contextlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import DrawingError, Value, dot, lesson, maximum, ops, where
from autograd.draw import draw
from autograd.graph import topological_order
from autograd.learn.formula import number_text
from autograd.program import matrices
from nn.picture import example_graph

try:
    draw(Value(1.0)).svg()
except DrawingError as error:
    pytest.skip(f"no pictures here: {error}", allow_module_level=True)


def lab(
    point: tuple[float, float] = (0.2, 0.7), target: Any = 1.0, widths: Any = (4, 4, 1), **options: Any
) -> Any:
    settings: dict[str, Any] = dict(activation="sigmoid", bias=False, rng=np.random.default_rng(0)) | options
    model = nn.MLP(2, list(widths), **settings)
    return model, *example_graph(model, point, target, nn.squared_error)


def choice() -> Any:
    x, a, c = Value(1.1, "x"), Value(0.3, "a"), Value(-0.7, "c")
    hidden = where(x > a, x * a, a.exp()) + maximum(x, c).softplus() + abs(c).sqrt() / (a + 2.0)
    return -(hidden**2 + (x - 1.5 * c).tanh() - c.relu() + 0.5**a + x.sin() * c.cos() + (x * x + 1.0).log())


def recurrent() -> Value:
    w, u, h = Value(0.5, "w"), Value(-0.3, "u"), Value(0.1, "h0")
    for t, x in enumerate((0.2, -0.4, 0.9), 1):
        h = (w * h + u * x).tanh()
        h.label = f"h{t}"
    return (h - 1.0) ** 2


def softmax() -> Value:
    z = [Value(x, f"z[{i}]") for i, x in enumerate((0.3, -1.2, 0.7))]
    e = [x.exp() for x in z]
    return -(e[1] / sum(e)).log()


def cross_entropy() -> Any:
    w = [
        [Value(x, f"w[{i},{j}]") for j, x in enumerate(row)]
        for i, row in enumerate(((0.4, -0.3), (0.1, 0.8)))
    ]
    x = [Value(0.5, "x[0]"), Value(-1.5, "x[1]")]
    return nn.cross_entropy([dot(row, x) for row in w], [0.25, 0.75])


# Without a browser


def test_the_labs_page_is_one_small_file_that_asks_for_nothing(tmp_path: Path) -> None:
    _, L, clusters = lab()
    page = lesson(L, clusters=clusters, title="<lab>")
    page.save(tmp_path / "lesson.html")
    text = (tmp_path / "lesson.html").read_text("utf-8")
    assert len(text.encode()) < 200_000 and "<title>&lt;lab&gt;</title>" in text
    links = re.findall(
        r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]*)""", re.sub(r"<script.*?</script>", "", text)
    )
    assert not [link for link in links if not link.startswith("#")]
    assert "http" not in re.sub(r"http://www\.w3\.org/[\w/.]*", "", text).replace("http-equiv", "")
    assert "default-src 'none'" in text and "unsafe" not in text and "eval(" not in text
    assert not re.search(r"<[^>]* on\w+=", text)
    frame = page._repr_html_()
    assert 'sandbox="allow-scripts"' in frame and "run this cell" in frame and "<script" not in frame
    assert repr(page) == "<Lesson of 51 nodes>"


def test_the_page_knows_every_primitive() -> None:
    script = (
        autograd.learn.lesson.__globals__["resources"].files("autograd.learn") / "page/page.js"
    ).read_text("utf-8")
    table = re.findall(r"const PRIMITIVES = \{(.*?)\n\};", script, re.DOTALL)[0]
    assert set(re.findall(r"\b(\w+):", re.sub(r"\?[^,]*:", "", table))) == {row.name for row in ops.ROWS}


def test_what_makes_no_lesson_says_why() -> None:
    with pytest.raises(TypeError, match=r"lesson takes a Value, not float 3\.0"):
        lesson(3.0)  # type: ignore[arg-type]
    with pytest.raises(DrawingError, match="nodes is too large for a lesson"):
        lesson(lab(widths=(16, 16, 1))[1])
    with pytest.raises(ValueError, match="language is 'en' or 'zh', not 'tlh'"):
        lesson(Value(1.0), language="tlh")
    with pytest.raises(TypeError, match="clusters is a dict"):
        lesson(Value(1.0), clusters=[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data has Values, and not 3"):
        lesson(Value(1.0), data={"x": [3]})
    cube = ops.Primitive("cube", "x³", lambda x: x**3, lambda x: x**3, lambda x, out: 3.0 * x * x)
    with pytest.raises(TypeError, match="knows the table's primitives; 'cube' is your own"):
        lesson(cube(Value(2.0)))
    with pytest.raises(ValueError, match="finite"):
        lesson(Value(math.inf))
    w = Value(2.0, "w")
    y = w * 3.0
    w.data = 4.0
    with pytest.raises(ValueError, match="record it again"):
        lesson(y)


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not path:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A function that opens a lesson; afterwards nothing may have been said or asked for."""
    said: Any = []
    with contextlib.ExitStack() as stack:

        def show(page: Any, address: str = "", **options: Any) -> Any:
            path = tmp_path / f"{len(said)}-lesson.html"
            page.save(path)
            tab = browser.new_page(**options)
            stack.callback(tab.close)
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
            tab.on(
                "request", lambda request: request.url.startswith(path.as_uri()) or said.append(request.url)
            )
            tab.goto(path.as_uri() + address)
            return tab

        yield show
        assert said == []


EVERY_STEP = """steps().map((step, k) => {
    go(k);
    const count = selector => document.querySelectorAll(selector).length;
    return {
        ...step, now: $("now").innerText, all: document.body.innerText,
        result: $("now").querySelector(".result")?.innerText,
        nodes: count("#drawing .node.current"), lines: count("#lines .current"),
    };
})"""


def numbers_of(tab: Any) -> Any:
    return tab.evaluate("[[...value], [...gradient], entries.map(a => [...a])]")


def agrees(tab: Any, output: Value, data: Any) -> None:
    """The page's values, gradients and entries of all arrays are Python's."""
    order = topological_order(output)
    for v in order:
        v.grad = 0.0
    output.backward()
    values, gradients, entries = numbers_of(tab)
    assert values == pytest.approx([v.data for v in order], rel=1e-12, abs=1e-14)
    assert gradients == pytest.approx([v.grad for v in order], rel=1e-12, abs=1e-14)
    found = matrices(output, data)
    numbers = found.run()
    for array, page in zip(found.arrays, entries, strict=True):
        assert page == pytest.approx(numbers[array.name].ravel(), rel=1e-12, abs=1e-14)


def graphs() -> Iterator[Any]:
    _, L, clusters = lab()
    yield L, clusters
    _, L, clusters = lab(widths=(3, 2), activation="tanh", bias=True, target=(1.0, -1.0))
    yield L, clusters
    for f in (choice, recurrent, softmax, cross_entropy):
        yield f(), None


@pytest.mark.parametrize("number", range(6))
def test_every_step_shows_pythons_numbers(opened: Callable[..., Any], number: int) -> None:
    output, clusters = list(graphs())[number]
    data = getattr(clusters, "data", {})
    tab = opened(lesson(output, clusters=clusters))
    agrees(tab, output, data)
    order, seen = topological_order(output), {"v": set[Any](), "g": set[Any]()}
    for mode in ("element", "matrix"):
        tab.evaluate(f"set_mode('{mode}')")
        for step in tab.evaluate(EVERY_STEP):
            assert step["now"].strip() and not re.search("undefined|NaN", step["all"])
            if step["kind"] == "start":
                continue
            if mode == "matrix":
                assert step["lines"] == 1
                continue
            [i] = step["ids"]
            seen[step["kind"]].add(i)
            right = order[i].data if step["kind"] == "v" else order[i].grad
            result = float(step["result"].rpartition("= ")[2].replace("−", "-"))
            assert result == pytest.approx(right, rel=1e-5, abs=1e-300) and step["nodes"] >= 1
    assert seen["v"] == {i for i, v in enumerate(order) if v.op}
    assert seen["g"] >= {i for i, v in enumerate(order) if v.grad}


def test_a_moved_number_moves_what_python_says(opened: Callable[..., Any]) -> None:
    model, L, clusters = lab()
    parameter = model.layers[1].neurons[2].w[1]
    start, data = parameter.data, clusters.data
    tab = opened(lesson(L, clusters=clusters), "#step=40&mode=matrix&pick=w2[2,1]")
    assert tab.input_value("#leaf") and "not known yet" not in tab.inner_text("#effect")
    assert "if it moves by 0.01" in tab.inner_text("#effect")
    agrees(tab, L, data)
    slope = parameter.grad

    def moved(x: float) -> float:
        parameter.data = x
        output, clusters = example_graph(model, [0.2, 0.7], 1.0, nn.squared_error)
        agrees(tab, output, clusters.data)
        return output.data

    tab.fill("#number", "1.25")
    change = moved(1.25) - L.data
    said = tab.inner_text("#effect")
    assert f"L moved by {number_text(change)}" in said
    assert f"had said {number_text(slope * (1.25 - start))}" in said
    tab.locator("#slide").fill("0.5")
    moved(0.5)
    assert tab.locator("#chain .formula").count() > 10
    tab.click("#reset")
    moved(start)


def test_descent_takes_the_steps_of_sgd(opened: Callable[..., Any]) -> None:
    model, L, clusters = lab()
    tab = opened(lesson(L, clusters=clusters))
    tab.fill("#rate", "0.25")
    tab.click("#once")
    row = tab.locator("#descent td").all_inner_texts()
    L.backward()
    promised = -0.25 * sum(p.grad**2 for p in model.parameters())
    nn.SGD(model.parameters(), lr=0.25).step()
    after = example_graph(model, [0.2, 0.7], 1.0, nn.squared_error)
    agrees(tab, after[0], after[1].data)
    shown = [float(x.replace("−", "-")) for x in row]
    assert shown == pytest.approx([L.data, after[0].data, after[0].data - L.data, promised], rel=1e-3)
    tab.click("#hundred")
    assert "L went down" in tab.inner_text("#descent") and tab.locator("#descent path").count() == 1
    tab.click("#restart")
    _, L, clusters = lab()
    agrees(tab, L, clusters.data)
    tab.fill("#rate", "30")
    tab.click("#hundred")
    assert re.search("they were too long|no longer finite", tab.inner_text("#descent"))
    tab.fill("#rate", "-1")
    tab.click("#once")
    assert "a number above 0" in tab.inner_text("#descent")


def test_predictions_are_judged_and_slips_named(opened: Callable[..., Any]) -> None:
    _, L, clusters = lab()
    order = topological_order(L)
    tab = opened(lesson(L, clusters=clusters), "#predict=1")
    names = tab.evaluate("N.map(n => n.n)")
    at = {
        (s["kind"], names[s["ids"][0]]): k
        for k, s in enumerate(tab.evaluate("elements"))
        if s["kind"] != "start"
    }
    v = dict(zip(names, order))

    def answers(kind: str, name: str, x: Any) -> Any:
        tab.evaluate(f"go({at[kind, name]})")
        assert tab.locator("#now .result").count() == 0
        tab.fill("#answer", repr(x) if isinstance(x, float) else x)
        tab.keyboard.press("Enter")
        return tab.inner_text("#now")

    L.backward()
    assert "✓ Right." in answers("v", "h1[0]", v["h1[0]"].data * 1.001)
    assert "inside σ" in answers("v", "h1[1]", v["z1[1]"].data)
    assert "The term w1[2,1] · x2 is missing" in answers("v", "z1[2]", v["w1[2,0]"].data * v["x1"].data)
    assert "The sign is wrong" in answers("g", "p", -v["p"].grad)
    assert "The factor 1 − h2[2] is missing" in answers("g", "z2[2]", v["h2[2]"].grad * v["h2[2]"].data)
    assert "not its gradient" in answers("g", "w2[2,1]", v["w2[2,1]"].data)
    assert "local derivative alone" in answers("g", "w2[2,1]", v["h1[1]"].data)
    way = v["h1[0]"].grad - v["z2[3]"].grad * v["w2[3,0]"].data
    assert "The way through z2[3] is missing" in answers("g", "h1[0]", way)
    assert "no number" in answers("g", "h1[0]", "x") and "Not yet" in answers("g", "h1[0]", 77.0)
    tab.get_by_role("button", name="Reveal").click()
    assert tab.locator("#now .result").count() == 1
    tab.evaluate("set_mode('matrix')")
    tab.evaluate(
        "go(steps().findIndex(s => s.line !== undefined && ARRAYS[LINES[s.line][1]].n === 'grad_w2'))"
    )
    tab.evaluate("focus = [LINES[steps()[at].line][1], 7]; render()")
    tab.fill("#answer", str(v["w2[3,1]"].grad))
    tab.keyboard.press("Enter")
    assert "grad_w2[1,3]" in tab.inner_text("#now") and "row and column exchanged" in tab.inner_text("#now")
    tab.fill("#answer", str(v["w2[1,3]"].grad))
    tab.keyboard.press("Enter")
    assert "✓ Right." in tab.inner_text("#now")
    tab.evaluate(
        "go(steps().findIndex(s => s.line !== undefined && ARRAYS[LINES[s.line][1]].n === 'delta1'))"
    )
    tab.evaluate("focus = [LINES[steps()[at].line][1], 3]; render()")
    along_the_row = sum(v[f"z2[{k}]"].grad * v[f"w2[3,{k}]"].data for k in range(4))
    h = v["h1[3]"].data
    tab.fill("#answer", str(along_the_row * h * (1.0 - h)))
    tab.keyboard.press("Enter")
    assert "Rows and columns of w2 are exchanged" in tab.inner_text("#now")


def test_keys_links_languages_and_clicks(opened: Callable[..., Any]) -> None:
    _, L, clusters = lab()
    tab = opened(lesson(L, clusters=clusters), "#step=48&mode=element&pick=w2[2,1]")
    assert tab.evaluate("[at, mode, N[picked].n]") == [48, "element", "w2[2,1]"]
    for key, at, mode in [("ArrowRight", 49, "element"), ("ArrowLeft", 48, "element"), ("m", 8, "matrix"),
                          ("End", 10, "matrix"), ("Home", 0, "matrix"), ("e", 0, "element")]:  # fmt: skip
        tab.keyboard.press(key)
        assert tab.evaluate("[at, mode]") == [at, mode], key
        assert f"step={at}&mode={mode}&pick=w2[2,1]" in tab.url
    tab.keyboard.press("Escape")
    assert tab.evaluate("picked") is None and "pick" not in tab.url
    tab.keyboard.press(" ")
    assert tab.get_attribute("#play", "aria-pressed") == "true"
    tab.keyboard.press(" ")
    assert tab.get_attribute("#play", "aria-pressed") == "false"
    tab.select_option("#language", "zh")
    assert "矩陣" in tab.inner_text("#matrix") and tab.evaluate("document.documentElement.lang") == "zh-Hant"
    missing = tab.evaluate("Object.keys(WORDS.en).filter(k => typeof WORDS.en[k] !== typeof WORDS.zh[k])")
    assert missing == []
    tab.evaluate("location.hash = '#step=9&mode=matrix&lang=en'")
    tab.wait_for_function("at === 9 && mode === 'matrix'")
    tab.locator("#matrices td").nth(2).click()
    assert "delta1[2]" in tab.inner_text("#now") and tab.evaluate("mode") == "matrix"
    tab.locator("#lines li").nth(1).click()
    assert tab.evaluate("[at, mode]") == [2, "matrix"]
    tab.locator("#drawing .leaf").first.click()
    assert tab.evaluate("picked") is not None
    tab.focus("#matrix")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("mode") == "element"


def test_element_and_matrix_lead_to_each_other(opened: Callable[..., Any]) -> None:
    _, L, clusters = lab()
    tab = opened(lesson(L, clusters=clusters))
    there_and_back = """elements.map((step, k) => {
        set_mode("element"); go(k); set_mode("matrix");
        const home = k ? N[step.ids[0]][step.kind] : null, line = steps()[at].line;
        const own = home && LINES[line] && home[1] === LINES[line][1];
        const entry = own ? [home[0], home[2], line, focused(steps()[at])] : null;
        set_mode("element");
        return [k, at, entry];
    })"""
    entries = 0
    for k, at, entry in tab.evaluate(there_and_back):
        assert at == k and (entry is None or entry[:2] == entry[2:])
        entries += entry is not None
    assert entries > 30
    at = tab.evaluate("elements.findIndex(s => s.kind === 'g' && N[s.ids[0]].n === 'h1[2]')")
    tab.evaluate(f"go({at})")
    assert "on the way to delta1[2]" in tab.inner_text("#now")
    used = tab.locator("#matrices td.use").all_inner_texts()
    order = {v.label: v for v in topological_order(L)}
    column = [number_text(order[f"w2[{i},2]"].data) for i in range(4)]
    assert set(column) <= set(used) and len(used) == 8  # and the four of delta2


def test_pages_of_one_node_and_without_labels(opened: Callable[..., Any]) -> None:
    tab = opened(lesson(Value(2.0)))
    tab.evaluate("go(1); set_mode('matrix')")
    assert tab.evaluate("mode") == "element" and "2" in tab.inner_text("#drawing")
    a, b = Value(0.5), Value(-1.5)
    tab = opened(lesson((a * b).tanh() + a))
    assert tab.locator("#leaf option").count() == 3
    tab.click("#once")
    assert "L went down" in tab.inner_text("#descent")


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 390, "height": 844}},
        {"viewport": {"width": 1400, "height": 900}, "color_scheme": "dark", "reduced_motion": "reduce"},
    ],
    ids=["phone", "dark"],
)
def test_it_fits_phones_and_the_dark(opened: Callable[..., Any], options: dict[Any, Any]) -> None:
    _, L, clusters = lab()
    tab = opened(lesson(L, clusters=clusters, language="zh"), "#step=5", **options)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.get_attribute("html", "lang") == "zh-Hant"
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == ("color_scheme" not in options)
    tab.emulate_media(media="print")
    assert not tab.locator("#tools").is_visible() and tab.locator("#now").is_visible()


def test_labels_are_text(opened: Callable[..., Any]) -> None:
    names = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(2)>",
        "a&b",
        "x'\"`${1}",
        "@@DATA@@",
    ]
    xs = [Value(0.3 * i + 0.2, name) for i, name in enumerate(names)]
    output = sum(x.tanh() for x in xs) * xs[0]
    output.label = "</style><svg onload=alert(3)>"
    tab = opened(
        lesson(output, clusters={"<b>title</b>": xs}, title="</title><script>alert(4)</script>"), "#step=3"
    )
    for at in range(len(tab.evaluate("steps()"))):
        tab.evaluate(f"go({at})")
    assert tab.evaluate("document.images.length + document.querySelectorAll('b b').length") == 0
    assert tab.evaluate("LEAVES.map(i => N[i].n)") and names[0] in tab.inner_text("#leaf")
    tab.evaluate("set_mode('matrix'); go(1)")


def test_the_notebooks_frame_runs(browser: Any) -> None:
    _, L, clusters = lab()
    tab, said = browser.new_page(), []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.set_content(lesson(L, clusters=clusters)._repr_html_())
    frame = tab.frame_locator("iframe")
    frame.locator("#next").click()
    assert "Forward" in frame.locator("#now").inner_text() and said == []
    tab.close()


def test_the_pages_primitives_are_the_tables(opened: Callable[..., Any]) -> None:
    tab = opened(lesson(lab()[1]))
    numbers = [-800.0, -3.5, -1.0, -1e-9, 0.0, 1e-300, 0.25, 1.0, 2.0, 40.0]
    cases = []
    for name, row in ops.TABLE.items():
        given: dict[str, Any] = {
            "dot": [[0.5, -2.0, 3.25], [1.5, 4.0, -0.125]],
            "total": [[0.5, -2.0]],
            "where": [1.0, [0.5, -2.0]],
        }
        pairs = [[x, y] for x in numbers for y in numbers] if row.dy else [[x] for x in numbers]
        for operands in [given[name]] if name in given else pairs:
            with contextlib.suppress(ArithmeticError, ValueError):
                cases.append((name, operands, row.compute(*operands)))
    found = tab.evaluate(
        f"{json.dumps([case[:2] for case in cases])}.map(([name, xs]) => PRIMITIVES[name](...xs))"
    )
    for case, number in zip(cases, found, strict=True):
        assert number == pytest.approx(case[2], rel=1e-13, abs=0.0), case
    assert len(cases) > 500
