"""The `sgacodec` command."""
