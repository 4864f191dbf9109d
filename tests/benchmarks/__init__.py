"""How fast the system is: `python -m tests.benchmarks [NAME …]`. Figures for people, never part of the suite."""
