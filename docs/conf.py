"""Configuration of the documentation. All it needs is in the repository: the pages make no request to any host."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the kernel that runs the tutorial
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import riron

project = "riron"
author = "The riron developers"
copyright = "The riron developers, Apache-2.0"
version = release = riron.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "myst_nb",
    "plain_docstrings",
    "public_names",
    "study_catalogue",
    "command_line",
    "page_language",
]
exclude_patterns = [
    "_build",
    "_ext",
    "jupyter_execute",
    "forecast-errors.md",  # written by benchmarks/ and included in errors.md
    "learning-curve-backtest.md",
    "**.ipynb_checkpoints",
]
nitpicky = False

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False

mathjax_path = "tex-svg-full.js"
html_theme = "pydata_sphinx_theme"
html_title = "riron"
html_static_path = ["_static"]
html_css_files = ["riron.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 9,
    "navigation_with_keys": False,
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {"**": []}
