"""Mutated files against everything that reads files: no crash, no wrong picture, bounded time and memory."""
