"""Pictures: the same bytes each time, their origin inside, axes and errors; films and reports without foreign hosts."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from riron.errors import InputError
from riron.lab import plots, report
from riron.lab.animation import animate
from riron.lab.figures import shade, to_rgb
from riron.lab.verdict import Equal, judge

STEPS = np.array([0, 1, 3, 10, 30, 100])


def table(sizes=(32, 64, 128), seeds=24, names=("train_loss", "test_loss"), steps=STEPS, key=0, **extra):
    rng = np.random.default_rng(key)
    dots, line = {}, {}
    for size in sizes:
        truth = {name: (2 + k) * np.exp(-(steps**0.4)) + 0.01 for k, name in enumerate(names)}
        noise = rng.standard_normal((len(names), seeds, len(steps)))
        values = {n: (("seed", "step"), f * (1 + 0.1 * noise[k] + 2 / size)) for k, (n, f) in enumerate(truth.items())}
        dots[size] = xr.Dataset(values, {"step": steps})
        parts = {f"{n}_{part}": ("step", np.full(len(steps), v)) for n in truth for part, v in extra.items()}
        line[size] = xr.Dataset({n: ("step", f) for n, f in truth.items()} | parts, {"step": steps})
    return dots, line


def everything(figure):
    """All text of a figure."""
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def test_a_figure_has_the_same_bytes_each_time_and_carries_its_origin(tmp_path):
    origin = {"study": "homogenized-sgd", "parameters": {"batch": 2, "decay": np.float64(0.5)}}
    for name in ("a", "b"):
        dots, line = table(sd=0.1)
        figure = plots.draw(dots, line, judge(Equal("train_loss"), dots, line), title="homogenized-sgd")
        paths = plots.save(figure, tmp_path / name, metadata=origin)
        assert [path.name for path in paths] == ["figure.png", "figure.svg"]
    plots.save(figure, tmp_path / "c", metadata=origin)  # the same object once more
    for file in ("figure.png", "figure.svg"):
        first, *others = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert all(first == other for other in others), file
    assert json.loads(Image.open(tmp_path / "a/figure.png").info["riron"]) == {
        "study": "homogenized-sgd",
        "parameters": {"batch": 2, "decay": 0.5},
    }
    svg = (tmp_path / "a/figure.svg").read_text()
    assert "homogenized-sgd" in svg
    assert "<dc:date>" not in svg


def test_a_figure_does_not_depend_on_the_users_style_and_leaves_it_alone():
    dots, line = table()
    plain = plots.as_svg(plots.draw(dots, line))
    with matplotlib.rc_context({"font.size": 25, "lines.linewidth": 9, "svg.hashsalt": "other", "axes.grid": False}):
        assert plots.as_svg(plots.draw(dots, line)) == plain
        assert matplotlib.rcParams["font.size"] == 25


def test_no_pyplot_is_loaded():
    code = "import sys, riron.lab.plots, riron.lab.animation; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_panels_titles_legend_and_scales():
    dots, line = table(sd=0.1, tolerance=0.05)
    figure = plots.draw(dots, line, judge(Equal("train_loss"), dots, line), variables=["test_loss", "train_loss"])
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["test loss", "training loss"]
    words = everything(figure)
    for part in ("theory, limit of large size", "runs, size 128", "between runs", "worst t", "of 24 runs"):
        assert part in words
    assert figure.axes[0].get_xscale() == "symlog"
    assert figure.axes[0].get_yscale() == "log"
    # nothing of a picture lies outside of it
    width, height = figure.get_size_inches() * figure.dpi
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= width
    assert box.y0 >= 0
    assert box.y1 <= height


def test_the_judged_variables_are_drawn_unless_others_are_asked_for():
    dots, line = table()
    assert len(plots.draw(dots, line).axes) == 4
    assert len(plots.draw(dots, line, judge(Equal("test_loss"), dots, line)).axes) == 2
    with pytest.raises(InputError, match=r"share no variable 'test_los'; did you mean 'test_loss'\?"):
        plots.draw(dots, line, variables=["test_los"])


def test_diverged_runs_numbers_without_a_record_and_other_theories_are_drawn():
    dots, line = table()
    dots[64].train_loss[3, 4:] = np.inf
    figure = plots.draw(dots, line, beside={"exact moments": {s: data * 1.1 for s, data in line.items()}})
    assert "exact moments" in everything(figure)
    numbers = {n: xr.Dataset({"excess_risk": ("seed", np.arange(1, 9.0) / n)}) for n in (10, 100, 1000)}
    theory = {n: xr.Dataset({"excess_risk": 4.5 / n}) for n in numbers}
    figure = plots.draw(numbers, theory, labels={"size": "training samples"})
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert "training samples" in everything(figure)
    single = {8: dots[32].isel(seed=slice(1))}
    plots.draw(single, {8: line[32]})


def test_a_record_of_several_dimensions_is_laid_out_along_one():
    values = np.arange(24.0).reshape(4, 3, 2) + 1
    data = xr.Dataset({"a": (("seed", "x", "y"), values)}, {"x": [1, 10, 100], "y": [0, 1]})
    line = data.mean("seed")
    s = plots.Series.of(data, line, "a")
    assert s.axis == "y, x"
    np.testing.assert_array_equal(s.x, [0, 1, 2, 4, 5, 6])  # the longest axis runs fastest, with a gap between pieces
    np.testing.assert_allclose(s.line, values.mean(axis=0).T.ravel())
    np.testing.assert_allclose(s.mean, s.line)
    assert s.poles == (3.0,)
    figure = plots.draw({8: data}, {8: line}, beside={"twice": {8: 2 * line}})
    assert "y, x" in everything(figure)
    assert "twice" in everything(figure)


def test_points_that_have_names_are_called_by_them():
    data = xr.Dataset({"a": (("seed", "method"), np.arange(8.0).reshape(4, 2) + 1)}, {"method": ["GLD", "SGLD"]})
    figure = plots.draw(data, data.mean("seed"))
    assert {"GLD", "SGLD"} <= {text.get_text() for text in figure.axes[1].get_xticklabels()}


def test_a_line_of_one_point_can_be_seen():
    numbers = {10: xr.Dataset({"excess_risk": ("seed", np.arange(1, 9.0))})}
    figure = plots.draw(numbers, {10: xr.Dataset({"excess_risk": 4.5})})
    assert figure.axes[0].lines[0].get_marker() == "_"


def test_sizes_can_be_told_apart_in_grey():
    grey = lambda colour: np.dot(to_rgb(colour), [0.299, 0.587, 0.114])
    for base in ("#0072b2", "#d55e00"):
        shades = [grey(shade(base, k, 3)) for k in range(3)]
        assert shades[0] - shades[1] > 0.08
        assert shades[1] - shades[2] > 0.08
        assert shade(base, 2, 3) == to_rgb(base)


# ---- phase diagrams -------------------------------------------------------------------------------------------------


def grid():
    x, y = np.geomspace(1, 32, 6), np.linspace(0.1, 0.9, 5)
    values = xr.DataArray(np.log(x)[:, None] * y + 0.1, {"samples": x, "fraction": y}, ("samples", "fraction"), "speed")
    return values, ({"samples": x, "fraction": 1 / (1 + x)}, "critical step size")


def test_a_phase_diagram_with_its_boundary():
    values, boundary = grid()
    line = values * 1.05
    figure = plots.phase_diagram(values, line=line, boundary=boundary, title="study: speed")
    words = everything(figure)
    assert all(part in words for part in ("critical step size", "theory", "samples", "fraction", "study: speed"))
    assert "diverged" not in words
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_yscale() == "linear"
    mesh = axes.collections[0].get_array().reshape(5, 6)
    np.testing.assert_allclose(mesh, values.T)
    values[0, 0] = np.nan
    assert "diverged" in everything(plots.phase_diagram(values))
    assert plots.as_svg(plots.phase_diagram(values, line=line)) == plots.as_svg(plots.phase_diagram(values, line=line))


def test_a_phase_diagram_needs_two_labelled_dimensions():
    values, _ = grid()
    with pytest.raises(InputError, match="two labelled dimensions"):
        plots.phase_diagram(values[0])
    with pytest.raises(InputError, match="two labelled dimensions"):
        plots.phase_diagram(values.drop_vars("samples"))


# ---- films ----------------------------------------------------------------------------------------------------------


def test_a_film_as_gif_and_page(tmp_path):
    dots, line = table(seeds=6)
    options = {"variable": "test_loss", "seconds": 0.5, "frames_per_second": 10, "title": "<a>"}
    film = animate(dots, line, tmp_path / "run.gif", **options)
    with Image.open(tmp_path / "run.gif") as picture:
        assert picture.n_frames == len(film.frames) == 5
    first, last = (np.asarray(film.frames[k].convert("RGB"), float) for k in (0, -1))
    orange = lambda picture: (np.abs(picture - [213, 94, 0]).sum(axis=2) < 60).sum()
    assert orange(last) > orange(first) + 50
    assert np.asarray(film.frames[0].convert("RGB"))[2, 2].tolist() == [255, 255, 255]
    page = film.save(tmp_path / "run.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "<title>&lt;a&gt;</title>" in page
    sources = re.findall(r'"data:image/png;base64,([^"]+)"', page)
    assert len(sources) == 6  # the frames, and the last one for readers without scripts
    assert Image.open(io.BytesIO(base64.b64decode(sources[1]))).size == film.frames[0].size
    again = animate(dots, line, **options)
    assert again.save(tmp_path / "again.gif").read_bytes() == (tmp_path / "run.gif").read_bytes()


def test_a_film_survives_runs_that_diverge():
    dots, line = table(seeds=6)
    dots[128].train_loss[:2, 3:] = np.nan
    dots[128].train_loss[2, 3:] = np.inf
    animate(dots, line, seconds=0.2)
    dots[128].train_loss[:] = np.nan
    animate(dots, line, seconds=0.2)


def test_a_film_that_cannot_be_made_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    dots, line = table(seeds=6)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    cases = {
        "run.avi": "does not end in a format for moving pictures; use .gif, .html, .mp4",
        "run": "does not end in a format",
        "run.mp4": "needs ffmpeg, which is not installed here; write a .gif or .html",
        "no/run.gif": "there is no folder",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            animate(dots, line, tmp_path / name)
    with pytest.raises(InputError, match="there is no size 5; there are 32, 64, 128"):
        animate(dots, line, size=5)
    with pytest.raises(InputError, match="seconds=0"):
        animate(dots, line, seconds=0)
    assert not list(tmp_path.iterdir())


def test_a_film_as_mp4_goes_through_ffmpeg(tmp_path, monkeypatch):
    """With a stand-in for ffmpeg: it is handed all frames, and what it says when it fails becomes one sentence."""
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\ncat > "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    film = animate(*table(seeds=6), tmp_path / "run.mp4", seconds=0.3, frames_per_second=10)
    assert (tmp_path / "run.mp4").read_bytes().count(b"\x89PNG") == len(film.frames) == 3
    program.write_text("#!/bin/sh\ncat > /dev/null\necho 'no such codec' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"ffmpeg could not write the film: it said no such codec; write a \.gif"):
        film.save(tmp_path / "other.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ffmpeg", "run.mp4"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_film_as_mp4(tmp_path):
    animate(*table(seeds=6), tmp_path / "run.mp4", seconds=0.3)
    assert (tmp_path / "run.mp4").read_bytes()[4:8] == b"ftyp"


# ---- reports --------------------------------------------------------------------------------------------------------


def test_a_report_is_one_file_that_asks_nobody(tmp_path):
    dots, line = table()
    found = judge(Equal("train_loss"), dots, line)
    figure = plots.draw(dots, line, found)
    parts = {
        "title": "<script>alert(1)</script>",
        "claim": "SGD follows a < b & c",
        "verdict": found,
        "figures": {"the run": figure, "the same": plots.as_svg(figure)},
        "tables": {"Parameters": [{"name": "batch", "value": 2, "unit": None}, {"name": "<b>", "value": -0.123456}]},
        "notes": ["decimal commas were assumed"],
        "sources": ["Hall (1992) <i>"],
    }
    path = report.write(tmp_path / "new", **parts)
    text = path.read_text(encoding="utf-8")
    assert path.name == "report.html"
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert "a &lt; b &amp; c" in text
    assert "&lt;b&gt;" in text
    assert '<td class="number">−0.1235</td>' in text
    assert f'<p class="verdict {found["verdict"]}">' in text
    assert text.count("<svg role") == 2
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    for target in re.findall(r'href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text):
        assert target in identifiers
    assert text == report.page(**parts)
