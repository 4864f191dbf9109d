"""Pure numbers: numpy and scipy, no I/O, no clock. Pipelines may import it."""
