"""`python -m trimtab`: what the console script `trimtab` runs."""

from trimtab.cli import main

if __name__ == "__main__":
    main()
