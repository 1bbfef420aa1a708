"""Pages under a folder named after a language carry that language in <html lang>, so that browsers choose its fonts."""

import re


def set_language(app, pagename, templatename, context, doctree):
    match = re.match(r"(ja)/", pagename)
    if match:
        context["language"] = match[1]


def setup(app):
    app.connect("html-page-context", set_language)
    return {"version": "1", "parallel_read_safe": True}
