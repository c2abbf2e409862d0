"""`python -m labelwise` is the command line."""

from labelwise.cli import main

main()
