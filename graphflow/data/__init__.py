"""Data sets that come with graphflow: `from graphflow.data import mnist`."""
