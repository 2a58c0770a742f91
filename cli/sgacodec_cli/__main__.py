"""`python -m sgacodec_cli`."""

from sgacodec_cli.main import main

main(prog_name="sgacodec")
