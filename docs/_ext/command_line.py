"""`.. command-line:: riron.cli:app` documents every command of a Typer application, with its arguments and options."""

import importlib
import re

import click
import typer
from docutils import nodes
from docutils.parsers.rst import Directive


def commands(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    """The leaves of a command tree with their full names, in the order of `--help`."""
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    names = [name for name in command.list_commands(context) if not command.commands[name].hidden]
    return [leaf for name in names for leaf in commands(command.commands[name], (*path, name))]


def plain(text: str | None) -> str:
    """Help text without Rich's markup, its paragraphs unwrapped."""
    text = re.sub(r"\[/?(?:bold|dim|italic|[a-z]+ on [a-z]+)\]", "", text or "")
    return text.replace("\b", "").strip()


def label(parameter: click.Parameter, context: click.Context) -> str:
    """`--batch INTEGER` or `DATA`, as it is typed."""
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(context)
    assert isinstance(parameter, click.Option)
    names = " / ".join([", ".join(parameter.opts), *parameter.secondary_opts])
    return names if parameter.is_flag or parameter.count else f"{names} {parameter.make_metavar(context)}"


def note(parameter: click.Parameter, context: click.Context) -> str:
    """The help of a parameter with its default, where it has one that says something."""
    default = parameter.get_default(context, call=False)
    text = plain(getattr(parameter, "help", ""))
    worth_saying = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    stated = re.search(r"\bdefault\b", text, re.IGNORECASE)
    return f"{text} Default: {default}.".strip() if worth_saying and not stated else text


def texts(text: str) -> list[nodes.Node]:
    """Words with `code` between backticks."""
    parts = re.split(r"`([^`]+)`", text)
    return [nodes.literal("", p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts) if p]


def describe(path: tuple[str, ...], command: click.Command) -> nodes.section:
    """A section for one command."""
    context = click.Context(command, info_name=path[-1])
    name = " ".join(path)
    section = nodes.section(ids=[nodes.make_id(name)], names=[name])
    section += nodes.title("", name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    section += nodes.literal_block(usage, usage, language="text")
    for paragraph in filter(None, re.split(r"\n\s*\n", plain(command.help))):
        section += nodes.paragraph("", "", *texts(" ".join(paragraph.split())))
    items = nodes.definition_list(classes=["options"])
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False):
            continue
        item = nodes.definition_list_item()
        item += nodes.term("", "", nodes.literal("", label(parameter, context)))
        item += nodes.definition("", nodes.paragraph("", "", *texts(note(parameter, context))))
        items += item
    section += items
    return section


class CommandLine(Directive):
    required_arguments = 1

    def run(self):
        module, name = self.arguments[0].split(":")
        application = getattr(importlib.import_module(module), name)
        command = application if isinstance(application, click.Command) else typer.main.get_command(application)
        return [describe(path, leaf) for path, leaf in commands(command, ("riron",))]


def setup(app):
    app.add_directive("command-line", CommandLine)
    return {"version": "1", "parallel_read_safe": True}
