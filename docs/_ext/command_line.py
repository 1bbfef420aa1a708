"""`.. command-line:: riron.cli:app` documents every command of a Typer application, with its arguments and options.

Typer carries a Click of its own in some versions and uses the installed one in others: nothing here asks for a class.
"""

import importlib
import re
from typing import Any

import typer
from docutils import nodes
from docutils.parsers.rst import Directive


def commands(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """The leaves of a command tree with their full names, in the order of `--help`."""
    if not hasattr(command, "commands"):
        return [(path, command)]
    context = command.context_class(command)
    names = [name for name in command.list_commands(context) if not command.commands[name].hidden]
    return [leaf for name in names for leaf in commands(command.commands[name], (*path, name))]


def plain(text: str | None) -> str:
    """Help text without Rich's markup, its paragraphs unwrapped."""
    text = re.sub(r"\[/?(?:bold|dim|italic|[a-z]+ on [a-z]+)\]", "", text or "")
    return text.replace("\b", "").strip()


def texts(text: str) -> list[nodes.Node]:
    """Words with `code` between backticks."""
    parts = re.split(r"`([^`]+)`", text)
    return [nodes.literal("", p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts) if p]


def describe(path: tuple[str, ...], command: Any) -> nodes.section:
    """A section for one command."""
    context = command.context_class(command, info_name=path[-1])
    name = " ".join(path)
    section = nodes.section(ids=[nodes.make_id(name)], names=[name])
    section += nodes.title("", name)
    usage = " ".join([name, *command.collect_usage_pieces(context)]).replace("{", "").replace("}", "")
    section += nodes.literal_block(usage, usage, language="text")
    for paragraph in filter(None, re.split(r"\n\s*\n", plain(command.help))):
        section += nodes.paragraph("", "", *texts(" ".join(paragraph.split())))
    items = nodes.definition_list(classes=["options"])
    told = [parameter for parameter in command.get_params(context) if parameter.name != "help"]
    for label, text in filter(None, (parameter.get_help_record(context) for parameter in told)):
        item = nodes.definition_list_item()
        item += nodes.term("", "", nodes.literal("", label))
        item += nodes.definition("", nodes.paragraph("", "", *texts(" ".join(plain(text).split()))))
        items += item
    section += items
    return section


class CommandLine(Directive):
    required_arguments = 1

    def run(self):
        module, name = self.arguments[0].split(":")
        application = getattr(importlib.import_module(module), name)
        command = typer.main.get_command(application)
        return [describe(path, leaf) for path, leaf in commands(command, ("riron",))]


def setup(app):
    app.add_directive("command-line", CommandLine)
    return {"version": "1", "parallel_read_safe": True}
