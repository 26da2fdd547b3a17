"""`python -m ringkas` is the same as `ringkas`."""

from ringkas.cli import main

main()
