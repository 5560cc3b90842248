"""Run programs: sessions, variables, threads.  Start at `session.py`."""
