"""`python -m sgacodec`: the same program as `sgacodec`. The library itself never imports the command line."""

if __name__ == "__main__":
    from sgacodec_cli.__main__ import run

    run()
