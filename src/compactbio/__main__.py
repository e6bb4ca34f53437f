"""`python -m compactbio`, which is also how torchrun starts a process."""

from compactbio.cli import main

main()
