"""What a forecast leaves on the disk."""

import os
from html import escape
from pathlib import Path

import numpy as np
import xarray as xr

from ..lab import plots
from ..lab.addressing import address
from ..lab.files import write_json, write_text
from ..lab.netcdf import write_datatree
from ..lab.store import Store
from .advising.schedule_files import write_schedule
from .options import SEARCHED
from .result import Forecast
from .summary import as_text

KEPT = 64  # pictures kept in the cache folder

STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans", sans-serif; max-width: 64rem; margin: 2rem auto; color: #1a1a1a }
body { padding: 0 1rem } svg { max-width: 100%; height: auto }
pre { white-space: pre-wrap; background: #f4f4f4; padding: .8rem; line-height: 1.35 }
"""


def write(found: Forecast, folder: Path) -> None:
    """Write forecast.json, .nc, cleaning.json, figure.png, .svg and report.html into a folder that is there.

    A schedule that was searched is written too, one step size a line: schedule.csv.
    """
    write_json(folder / "forecast.json", found.to_dict())
    write_json(folder / "cleaning.json", {"cleaning": found.cleaning, "notes": found.notes})
    write_datatree(folder / "forecast.nc", datasets(found))
    if found.options.schedule == SEARCHED:
        write_schedule(folder / "schedule.csv", np.asarray(found.training.step_sizes))
    plots.save(found.plot(), folder, metadata=origin(found))
    write_text(folder / "report.html", as_html(found, (folder / "figure.svg").read_text(encoding="utf-8")))


def keep_picture(found: Forecast) -> Path | None:
    """Write the picture into the user's cache folder, named by what was asked; None if that cannot be written."""
    try:
        folder = Store().root / "forecasts" / address(origin(found))[:16]
        folder.mkdir(parents=True, exist_ok=True)
        plots.save(found.plot(), folder, metadata=origin(found))
        prune(folder.parent)
    except OSError:
        return None
    return folder / "figure.png"


def prune(folder: Path) -> None:
    """Remove the oldest pictures beyond those that are kept."""
    held = sorted((p for p in folder.iterdir() if p.is_dir()), key=os.path.getmtime)
    for old in held[:-KEPT]:
        for name in ("figure.png", "figure.svg"):
            (old / name).unlink(missing_ok=True)
        old.rmdir()


def origin(found: Forecast) -> dict:
    """What makes this forecast again."""
    whole = found.to_dict()
    return {"riron": whole["riron"], "source": found.about["source"], "parameters": whole["parameters"]}


def datasets(found: Forecast) -> dict[str, dict[str, xr.Dataset]]:
    """All numbers as labelled arrays: /forecast/curve, /forecast/learning_curve, ..., /verify/dots, /verify/line."""
    keys = found.advice[0].keys()
    advice = xr.Dataset({k: ("setting", [np.nan if s[k] is None else s[k] for s in found.advice]) for k in keys})
    advice["best"] = advice.best.astype("int8")
    tree = {
        "forecast": {
            "curve": found.curve,
            "advice": advice,
            "learning_curve": found.learning_curve,
        }
    }
    if found.edges is not None:
        tree["forecast"]["stability_edge"] = xr.Dataset(
            {k: ("batch", [e[k] for e in found.edges]) for k in ("exact", "homogenized", "method")},
            {"batch": [e["batch"] for e in found.edges]},
        )
    if found.heavy_rows is not None:
        tree["forecast"]["rows"] = found.heavy_rows
    if found.verification is not None:
        tree["verify"] = {"dots": found.verification.dots, "line": found.verification.line}
    return tree


def as_html(found: Forecast, svg: str) -> str:
    """One page without scripts or other files: the picture, and all that is printed."""
    about = found.about
    title = escape(f"Forecast: {about['source']}, {about['target']}")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n'
        f"<figure>{svg[svg.index('<svg') :]}</figure>\n<pre>{escape(as_text(found))}</pre>\n</body></html>\n"
    )
