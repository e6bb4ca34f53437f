"""The command line: one command a capability. It parses, calls and prints."""

from compactbio.cli.main import main

__all__ = ["main"]
