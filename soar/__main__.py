"""`python -m soar`."""

from soar.cli import main

main()
