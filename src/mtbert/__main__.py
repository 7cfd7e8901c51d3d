"""`python -m mtbert`, which is how launchers such as torchrun start it."""

from mtbert.app.cli import main

if __name__ == "__main__":
    main()
