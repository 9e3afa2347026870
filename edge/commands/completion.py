"""``edge completion``: what a shell needs to complete edge's commands and options."""

import argparse
import os
from collections.abc import Mapping

import shtab

from edge.commands.arguments import make_parser
from edge.commands.output import say

FILES = frozenset({"FILE", "PATH"})
"""Metavariables of arguments that are files."""


def completion(arguments: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    parser = make_parser()
    _mark_files(parser)
    say(shtab.complete(parser, arguments.shell))
    return os.EX_OK


def _mark_files(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments of a parser, and of its commands, are files."""
    for action in parser._actions:  # noqa: SLF001 - there is no other way to them
        if action.metavar in FILES:
            vars(action)["complete"] = shtab.FILE
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                _mark_files(command)
