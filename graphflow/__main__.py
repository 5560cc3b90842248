"""`python -m graphflow` is the command `graphflow`."""

from graphflow.cli import main

raise SystemExit(main())
