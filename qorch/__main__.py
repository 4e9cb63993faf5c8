"""`python -m qorch`."""

from qorch.cli import main

main()
