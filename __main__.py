"""`python -m searchctl`: the command line, as torchrun starts it on each process."""

from .app.cli import main

if __name__ == "__main__":
    main()
