"""``edge completion``: what a shell needs to complete edge's commands and options."""

import argparse
import os
import sys
from collections.abc import Mapping

import shtab

from edge.commands.arguments import make_parser


def completion(arguments: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    sys.stdout.write(shtab.complete(make_parser(), arguments.shell))
    return os.EX_OK
