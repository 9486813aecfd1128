"""`python -m rehost`: the command line without an installed script."""

from rehost.cli.main import main

main()
