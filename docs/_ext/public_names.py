"""`.. public:: riron.forecast` documents every public name of a module: those of its `__all__`, in that order.

For a module without `__all__`: the functions and classes that are written in it and do not begin with an underscore.
"""

import importlib
import inspect
from types import ModuleType

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.util.nodes import nested_parse_with_titles


def public_names(module: ModuleType) -> list[str]:
    """The public names of a module that are not modules themselves."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return [name for name in own if not name.startswith("_")]


def directive_for(value: object) -> str:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if callable(value) else "autodata"


class Public(Directive):
    """One autodoc entry for each public name of the module in the argument; `:except:` lists names shown elsewhere."""

    required_arguments = 1
    option_spec = {"except": str}

    def run(self):
        module = importlib.import_module(self.arguments[0])
        left_out = self.options.get("except", "").split()
        lines = [f".. py:currentmodule:: {module.__name__}", ""]
        for name in public_names(module):
            if name not in left_out:
                kind = directive_for(getattr(module, name))
                lines += [f".. {kind}:: {module.__name__}.{name}"]
                lines += ["   :members:", "   :exclude-members: __init__", ""] if kind == "autoclass" else [""]
        container = nodes.section()
        container.document = self.state.document
        source = self.state.document["source"]
        nested_parse_with_titles(self.state, StringList(lines, source), container)
        return container.children


def setup(app):
    app.add_directive("public", Public)
    return {"version": "1", "parallel_read_safe": True}
