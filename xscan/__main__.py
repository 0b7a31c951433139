"""``python -m xscan``, where the command is not on the path."""

from xscan.cli.app import main

__all__: list[str] = []

if __name__ == "__main__":  # worker processes load this module too, under another name
    main()
