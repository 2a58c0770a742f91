"""What several tests share; importable because pyproject.toml puts tests/ on the path."""
