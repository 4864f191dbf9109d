"""A hospital's load on the real orchestrator, with stand-ins for what pipelines compute: `python -m tests.load`.

How to run it and what its figures say: docs/capacity.md.
"""
