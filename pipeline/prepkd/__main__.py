"""`python -m prepkd`."""

from prepkd.cli import main

if __name__ == "__main__":
    main()
