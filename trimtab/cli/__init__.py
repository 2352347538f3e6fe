"""The command line. One file per noun; `main` is where every error becomes one line and an exit code.

Nothing here loads torch, SQLAlchemy or Celery at import, so that `trimtab --help` and the reading commands start at once.
"""

from trimtab.cli.app import main as main
