"""The description of one command of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from durable_streams.config import ConfigLoadOptions


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """For commands without arguments of their own."""


@dataclass(frozen=True, slots=True)
class Command:
    """A name, a line for `--help`, and what runs.

    `run` gets where to load the configuration from and the parsed arguments, and returns the exit code.
    """

    name: str
    summary: str
    run: Callable[[ConfigLoadOptions, argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = no_arguments
