"""`python -m pasr_perception.cli`: the same as `pasr`."""

from pasr_perception.cli import main

main()
