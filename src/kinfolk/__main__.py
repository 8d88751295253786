"""`python -m kinfolk`."""

from kinfolk.cli import main

main()
