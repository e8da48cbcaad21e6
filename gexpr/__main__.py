"""``python -m gexpr`` is the ``gexpr`` command."""

from gexpr.cli.main import main

main(prog_name="gexpr")
